"""Random crops: parts of the image, mirrored or not, everything of one sample alike."""

from __future__ import annotations

import pytest
import torch

from autoprune.data.crops import random_crops
from autoprune.data.inputs import Inputs


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def ramp(count: int, height: int, width: int) -> torch.Tensor:
    """(count, 2, height, width): a pixel's values are where it lies, from 0 to 1."""
    down, right = (torch.linspace(0, 1, size) for size in (height, width))
    return torch.stack(torch.meshgrid(down, right, indexing="ij")).expand(count, 2, -1, -1).contiguous()


def test_parts_lie_inside_and_hold_half_of_the_image() -> None:
    found = random_crops(Inputs((ramp(400, 32, 48),)), generator()).args[0]
    down, right = found[:, 0, :, 24], found[:, 1, 16]
    tall, wide = down[:, -1] - down[:, 0], right[:, -1] - right[:, 0]
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert bool((tall > 0).all()), "never upside down"
    area = tall * wide.abs()
    # The outermost pixels' middles are as far apart as the image is wide, less one pixel.
    assert 0.45 < float(area.min()) < 0.55 and float(area.max()) > 0.9
    assert 0.4 < float((wide < 0).float().mean()) < 0.6, "half of them are mirrored"


def test_parts_differ_from_image_to_image_and_not_from_call_to_call() -> None:
    inputs = Inputs((ramp(5, 8, 8),))
    found, again = (random_crops(inputs, generator()).args[0] for _ in range(2))
    assert found.equal(again) and len({tuple(image.flatten().tolist()) for image in found}) == 5


def test_masks_follow_their_images_and_keep_their_values() -> None:
    images = ramp(20, 16, 16)
    mask = (images[:, 1] > 0.5).long() * 7
    numbers = torch.randn(20, 3)
    found = random_crops(Inputs((images,), {"mask": mask, "numbers": numbers}), generator())
    assert found.kwargs["mask"].dtype == torch.int64 and set(found.kwargs["mask"].unique().tolist()) == {0, 7}
    agreement = (found.kwargs["mask"] == 7) == (found.args[0][:, 1] > 0.5)
    assert float(agreement.float().mean()) > 0.95
    assert found.kwargs["numbers"].equal(numbers)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_types_and_layouts_stay_and_say_the_same(dtype: torch.dtype) -> None:
    images = ramp(6, 64, 64)
    expected = random_crops(Inputs((images,)), generator()).args[0]
    given = images.to(dtype).contiguous(memory_format=torch.channels_last)
    found = random_crops(Inputs((given,)), generator()).args[0]
    assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.float(), expected, atol=5e-3, rtol=0)


def test_slices_of_volumes_are_cut_alike() -> None:
    images = ramp(4, 8, 8)
    volumes = torch.stack([images, images, images], 2)
    found = random_crops(Inputs((volumes,)), generator()).args[0]
    assert found.shape == volumes.shape and found[:, :, 0].equal(found[:, :, 2])
    torch.testing.assert_close(found[:, :, 0], random_crops(Inputs((images,)), generator()).args[0])


def test_sequences_stay_as_they_are() -> None:
    tokens = torch.randn(2, 7, 4)
    assert random_crops(Inputs((tokens,)), generator()).args[0].equal(tokens)
