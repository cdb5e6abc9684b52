"""MNIST, CIFAR-10 and CIFAR-100 as torchvision stores them.

Validation and test are two parts of the official test images: the networks in circulation were
trained on all of the official training images.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autoprune.config import DataConfig
from autoprune.data.pixels import PerChannel, Pixels, Unlabelled
from autoprune.data.registry import register
from autoprune.data.splits import Splits, calibration_indices, held_out_indices
from autoprune.errors import DataError

READS = ("root", "download", "mean", "std")


@dataclass(frozen=True)
class Source:
    """A class of torchvision.datasets, and the usual normalisation for pixels in 0..1."""

    name: str
    num_classes: int
    mean: PerChannel
    std: PerChannel


# CIFAR-10: the numbers of the widely used ResNet weights, which are ImageNet's.
CIFAR10 = Source("CIFAR10", 10, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR100 = Source("CIFAR100", 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
MNIST = Source("MNIST", 10, (0.1307,), (0.3081,))


@register("mnist", reads=READS)
def mnist(config: DataConfig) -> Splits:
    """28x28 grey digits in `root`/MNIST."""
    return _splits(MNIST, config)


@register("cifar10", reads=READS)
def cifar10(config: DataConfig) -> Splits:
    """32x32 colour images in `root`/cifar-10-batches-py."""
    return _splits(CIFAR10, config)


@register("cifar100", reads=READS)
def cifar100(config: DataConfig) -> Splits:
    """32x32 colour images in `root`/cifar-100-python."""
    return _splits(CIFAR100, config)


def _splits(source: Source, config: DataConfig) -> Splits:
    train = _pixels(source, config, train=True)
    held_out = _pixels(source, config, train=False)
    validation, test = held_out_indices(held_out.labels.tolist(), config.validation_images)
    return Splits(
        calibration=Unlabelled(train.select(calibration_indices(len(train), config.calibration_images))),
        validation=held_out.select(validation),
        test=held_out.select(test),
        train=train,
        num_classes=source.num_classes,
    )


def _pixels(source: Source, config: DataConfig, *, train: bool) -> Pixels:
    stored = _open(source, config, train=train)
    labels = torch.as_tensor(stored.targets)
    mean, std = config.mean or source.mean, config.std or source.std
    return Pixels(_channels_first(torch.as_tensor(stored.data)), labels, mean=mean, std=std)


def _open(source: Source, config: DataConfig, *, train: bool) -> Any:
    # Imported here: torchvision takes a second, and the digits do without it.
    import torchvision

    dataset = getattr(torchvision.datasets, source.name)
    try:
        with warnings.catch_warnings():
            # The official pickles (torchvision checks their md5) hold a dtype that NumPy 2.4 warns about.
            warnings.filterwarnings("ignore", message=".*align should be passed.*")
            return dataset(config.root, train=train, download=config.download)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{source.name} was expected in '{config.root}' but is missing or damaged ({error}); set [data] "
            'root, or download it with download = true in [data] or python -c "import torchvision; '
            f"torchvision.datasets.{source.name}('{config.root}', download=True)\""
        ) from error


def _channels_first(images: Tensor) -> Tensor:
    """(N, H, W) or (N, H, W, C) -> (N, C, H, W), contiguous."""
    return images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
