"""Augmentation of batches of normalised images; every image of a batch is changed in its own way.

The transforms of torchvision draw once per call and so treat a whole batch alike. Crops and flips are one
gather here; anything else goes through torchvision.transforms.v2 image by image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.config import TrainingConfig
from autoprune.errors import ConfigError, unknown_name
from autoprune.importing import import_function
from autoprune.training.losses import TaskLoss

Augment = Callable[[Tensor], Tensor]
"""From a batch of images (N, C, H, W) to another; draws from PyTorch's global random numbers."""

SMALL = 64
"""Pixels: images up to this size are cropped at their own scale, larger ones are resized as well."""


def make_augmentation(name: str) -> Augment:
    """The augmentation a study file names; ConfigError for an unknown name."""
    if ":" in name:
        return per_image(import_function(name, "augmentation", ConfigError)())
    if name not in AUGMENTATIONS:
        raise ConfigError(f"{unknown_name('augmentation', name, AUGMENTATIONS)} Or package.module:function.")
    return AUGMENTATIONS[name]


def augmentation_for(settings: TrainingConfig, loss: TaskLoss) -> Augment:
    """The augmentation of a training; ConfigError where one is named that moves images away from labels.

    Without labels every image may be moved, for the teacher sees it so too.
    """
    moves = "always" if settings.distillation == 1 else loss.moves_images
    if moves == "never" and settings.augmentation in MOVING:
        raise ConfigError(
            f"augmentation '{settings.augmentation}' moves images and leaves the labels of their pixels; set "
            "'none', a function that leaves places alone (such as one of colours), or distillation = 1."
        )
    automatic = settings.augmentation == "auto" and moves != "always"
    return make_augmentation("none" if automatic else settings.augmentation)


def none(images: Tensor) -> Tensor:
    return images


def automatic(images: Tensor) -> Tensor:
    """By what the images look like: shifts for one channel, crops and flips for three, else nothing."""
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        return images
    if images.shape[1] == 1:
        return shift(images)
    return crop_flip(images) if max(images.shape[-2:]) <= SMALL else resized_crop_flip(images)


def shift(images: Tensor) -> Tensor:
    """Moved by up to an eighth of the size, the border repeated: digits must not be mirrored."""
    return _cropped(images, "replicate", flip=False)


def crop_flip(images: Tensor) -> Tensor:
    """Random crop of the image with a border of an eighth (4 of 32 pixels), mirrored half of the time.

    The usual one for CIFAR (He et al., CVPR 2016, section 4.2); the border is the mean colour.
    """
    return _cropped(images, "constant", flip=True)


def resized_crop_flip(images: Tensor) -> Tensor:
    """Random part of the image, resized to the full size and mirrored half of the time (ImageNet)."""
    from torchvision.transforms import v2

    height, width = images.shape[-2:]
    crop = v2.RandomResizedCrop((height, width), antialias=True)
    return per_image(v2.Compose([crop, v2.RandomHorizontalFlip()]))(images)


def per_image(transform: Augment) -> Augment:
    """A transform of one image (C, H, W), such as torchvision.transforms.v2 has, on every image alone."""
    return lambda images: torch.stack([transform(image) for image in images])


AUGMENTATIONS: dict[str, Augment] = {
    "auto": automatic,
    "none": none,
    "shift": shift,
    "crop-flip": crop_flip,
    "resized-crop-flip": resized_crop_flip,
}


MOVING = frozenset({"shift", "crop-flip", "resized-crop-flip"})
"""Those after which a thing is elsewhere in its image."""


def _cropped(images: Tensor, mode: str, *, flip: bool) -> Tensor:
    """One gather for all crops and flips; the answer has channels side by side in memory."""
    if images.dim() != 4:
        raise ConfigError(f"augmentation needs images (N, C, H, W), got {tuple(images.shape)}; set 'none'.")
    count, _, height, width = images.shape
    down, right = max(1, height // 8), max(1, width // 8)
    padded = F.pad(images, (right, right, down, down), mode=mode).permute(0, 2, 3, 1)
    columns = torch.arange(width).expand(count, width)
    if flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    columns = columns + torch.randint(0, 2 * right + 1, (count, 1))
    rows = torch.arange(height) + torch.randint(0, 2 * down + 1, (count, 1))
    index = [torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return padded[tuple(part.to(images.device) for part in index)].permute(0, 3, 1, 2)
