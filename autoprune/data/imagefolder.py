"""Folders of images, one sub-folder per class, decoded when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Subset

from autoprune.config import DataConfig
from autoprune.data.pixels import Unlabelled, check_normalisation
from autoprune.data.registry import register
from autoprune.data.splits import Splits, calibration_indices, held_out_indices
from autoprune.errors import DataError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_SIZE = 224
# The usual evaluation on ImageNet: shorter side 256, centre crop 224.
RESIZE_RATIO = 256 / 224
READS = ("root", "train_root", "validation_root", "image_size", "resize", "mean", "std")


@register("imagefolder", reads=READS)
def imagefolder(config: DataConfig) -> Splits:
    """Calibration from `train_root` or `root`/train, the rest from `validation_root` or `root`/val."""
    train = _folder(config, config.train_root or str(Path(config.root) / "train"))
    held_out = _folder(config, config.validation_root or str(Path(config.root) / "val"))
    if train.class_to_idx != held_out.class_to_idx:
        odd = sorted(train.class_to_idx.keys() ^ held_out.class_to_idx.keys())
        raise DataError(
            f"the folders '{train.root}' and '{held_out.root}' must hold the same classes, but only one has "
            f"{', '.join(odd[:5])}; an empty folder is enough"
        )
    validation, test = held_out_indices(held_out.targets, config.validation_images)
    return Splits(
        calibration=Unlabelled(_subset(train, calibration_indices(len(train), config.calibration_images))),
        validation=_subset(held_out, validation),
        test=_subset(held_out, test),
        train=train,
        num_classes=len(train.classes),
    )


def _subset(dataset: Dataset[Any], indices: Sequence[int]) -> Dataset[Any]:
    return Subset(dataset, indices)


def _folder(config: DataConfig, root: str) -> Any:
    from torchvision.datasets import ImageFolder

    try:
        folder = ImageFolder(root, transform=_transform(config), allow_empty=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"'{root}' must be a folder with one sub-folder of images per class: {error}; set root, or "
            "train_root and validation_root, in [data]"
        ) from error
    if len(folder) == 0:
        raise DataError(f"'{root}' holds no images; expected {root}/<class>/<image>.jpg or the like")
    return folder


def _transform(config: DataConfig) -> Any:
    from torchvision.transforms import v2

    size = config.image_size or IMAGE_SIZE
    resize = config.resize or round(size * RESIZE_RATIO)
    if resize < size:
        raise DataError(f"resize must be at least image_size {size}, got {resize}")
    mean, std = config.mean or MEAN, config.std or STD
    check_normalisation(mean, std, channels=3)
    return v2.Compose([
        v2.PILToTensor(),
        v2.Resize(resize, antialias=True),
        v2.CenterCrop(size),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(mean), list(std)),
    ])
