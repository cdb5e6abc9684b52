"""The three splits that keep results true, and how images are divided among them."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from autoprune.errors import DataError

CALIBRATION_IMAGES = 1024
VALIDATION_IMAGES = 2000
# One fixed division of each dataset: it must not move with the study's own seed.
DIVISION_SEED = 20240229


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Calibration yields inputs (labels, where there are any, are ignored); the others (input, label) pairs.

    `validation` holds images the network was not trained on, `test` is touched once, by the final
    report. `train` is for training and fine-tuning, without augmentation; None where there is none.
    """

    calibration: Dataset[Any]
    validation: Dataset[Any]
    test: Dataset[Any]
    train: Dataset[Any] | None = None
    num_classes: int | None = None


def size_of(dataset: Dataset[Any], what: str = "dataset") -> int:
    """Number of samples; DataError for a dataset without a length."""
    if not isinstance(dataset, Sized):
        raise DataError(f"{what} must have a length, got {type(dataset).__name__}; use a map-style dataset")
    return len(dataset)


def random_order(count: int, seed: int = DIVISION_SEED) -> list[int]:
    """A fixed permutation of 0..count-1. NumPy promises the stream of RandomState for all versions."""
    order: list[int] = np.random.RandomState(seed).permutation(count).tolist()
    return order


def stratified_order(labels: Sequence[int], seed: int = DIVISION_SEED) -> list[int]:
    """A fixed permutation of the images in which every prefix holds each class in its proportion."""
    counts = np.bincount(np.asarray(labels))
    seen = np.zeros_like(counts)
    place: dict[int, float] = {}
    for index in random_order(len(labels), seed):
        label = labels[index]
        place[index] = (seen[label] + 0.5) / counts[label]
        seen[label] += 1
    # sorted() is stable: images at the same place stay in random order.
    return sorted(place, key=place.__getitem__)


def calibration_indices(available: int, wanted: int | None) -> list[int]:
    """Which of the training images calibrate: a fixed random sample, blind to labels."""
    count = min(CALIBRATION_IMAGES, available) if wanted is None else wanted
    if not 1 <= count <= available:
        raise DataError(f"calibration_images must be 1 to {available} (the training images), got {count}")
    return random_order(available)[:count]


def held_out_indices(labels: Sequence[int], wanted: int | None) -> tuple[list[int], list[int]]:
    """Validation and test indices of the held-out images; both are stratified and neither is empty."""
    available = len(labels)
    count = min(VALIDATION_IMAGES, available // 2) if wanted is None else wanted
    if not 1 <= count < available:
        raise DataError(
            f"validation_images must be 1 to {available - 1}, so that of the {available} held-out images "
            f"some remain for the test; got {count}"
        )
    order = stratified_order(labels)
    return order[:count], order[count:]
