from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autoprune.config import TrainingConfig
from autoprune.errors import ConfigError
from autoprune.training.augmentation import (
    AUGMENTATIONS,
    MOVING,
    augmentation_for,
    crop_flip,
    make_augmentation,
    per_image,
    shift,
)
from autoprune.training.losses import CrossEntropy, PixelCrossEntropy, SquaredError, TaskLoss


def images(count: int = 64, channels: int = 3, size: int = 16) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def crops(image: Tensor, border: int, mode: str) -> list[Tensor]:
    """Every crop of one image (C, H, W) with a border."""
    size = image.shape[-1]
    padded = torch.nn.functional.pad(image[None], 4 * (border,), mode=mode)[0]
    steps = range(2 * border + 1)
    return [padded[:, down : down + size, right : right + size] for down in steps for right in steps]


def which(options: list[Tensor], image: Tensor) -> int:
    return next(i for i, option in enumerate(options) if torch.equal(option, image))


def test_each_image_gets_its_own_crop_and_flip() -> None:
    torch.manual_seed(0)
    batch = images(1).expand(400, -1, -1, -1)
    straight = crops(batch[0], 2, "constant")
    mirrored = crops(batch[0].flip(-1), 2, "constant")
    found = [which(straight + mirrored, image) for image in crop_flip(batch)]
    assert len(set(found)) == 50, "all 25 crops, straight and mirrored, occur"
    flips = sum(index >= 25 for index in found)
    assert 150 < flips < 250


def test_a_shift_moves_but_never_mirrors() -> None:
    torch.manual_seed(0)
    batch = images(1, channels=1, size=8).expand(60, -1, -1, -1)
    options = crops(batch[0], 1, "replicate")
    assert {which(options, image) for image in shift(batch)} == set(range(9))


def test_images_are_not_mixed_up() -> None:
    torch.manual_seed(0)
    batch = images(20)
    for before, after in zip(batch, crop_flip(batch), strict=True):
        which(crops(before, 2, "constant") + crops(before.flip(-1), 2, "constant"), after)


def test_crops_come_with_channels_side_by_side() -> None:
    found = crop_flip(images())
    assert found.shape == (64, 3, 16, 16) and found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (5, 3, 16, 12), (5, 3, 72, 80)])
def test_shape_type_and_range_stay(name: str, shape: tuple[int, ...]) -> None:
    batch = torch.rand(shape, dtype=torch.float32)
    found = make_augmentation(name)(batch)
    assert found.shape == shape and found.dtype == batch.dtype
    assert found.min() >= 0 and found.max() <= batch.max() + 1e-6


def test_automatic_follows_the_images() -> None:
    automatic = make_augmentation("auto")
    tokens = torch.randn(5, 7, 9)
    assert automatic(tokens) is tokens
    for batch, name in (
        (images(8, 1), "shift"),
        (images(8, 3), "crop-flip"),
        (images(8, 3, 72), "resized-crop-flip"),
    ):
        torch.manual_seed(3)
        found = automatic(batch)
        torch.manual_seed(3)
        assert torch.equal(found, make_augmentation(name)(batch)), name


def test_a_transform_of_torchvision_is_drawn_for_every_image() -> None:
    from torchvision.transforms import v2

    torch.manual_seed(0)
    batch = images(1).expand(100, -1, -1, -1)
    flipped = sum(not torch.equal(image, batch[0]) for image in per_image(v2.RandomHorizontalFlip())(batch))
    assert 25 < flipped < 75


def test_names_and_import_paths() -> None:
    make_augmentation("torchvision.transforms.v2:RandomHorizontalFlip")(images(2))
    with pytest.raises(ConfigError, match=r"unknown augmentation 'crop'.*crop-flip"):
        make_augmentation("crop")
    with pytest.raises(ConfigError, match="augmentation"):
        make_augmentation("no_such_module:function")
    with pytest.raises(ConfigError, match="needs images"):
        crop_flip(torch.zeros(3, 5))


@pytest.mark.parametrize("loss", [PixelCrossEntropy(), SquaredError()])
def test_by_rule_images_move_only_where_their_labels_stay_true(loss: TaskLoss) -> None:
    torch.manual_seed(0)
    batch = images()
    assert augmentation_for(TrainingConfig(), loss)(batch) is batch
    for settings, task in [(TrainingConfig(distillation=1.0), loss), (TrainingConfig(), CrossEntropy())]:
        assert not torch.equal(augmentation_for(settings, task)(batch), batch)


@pytest.mark.parametrize("name", sorted(MOVING))
def test_images_are_not_moved_away_from_the_labels_of_their_pixels(name: str) -> None:
    named = TrainingConfig(augmentation=name)
    with pytest.raises(ConfigError, match=f"'{name}' moves images"):
        augmentation_for(named, PixelCrossEntropy())
    for settings, loss in [
        (named, SquaredError()),
        (TrainingConfig(augmentation=name, distillation=1.0), PixelCrossEntropy()),
        (TrainingConfig(augmentation="torchvision.transforms.v2:RandomGrayscale"), PixelCrossEntropy()),
    ]:
        assert augmentation_for(settings, loss)(images()).shape == images().shape


def test_each_augmentation_says_whether_it_moves() -> None:
    assert set(AUGMENTATIONS) == {*MOVING, "auto", "none"}
