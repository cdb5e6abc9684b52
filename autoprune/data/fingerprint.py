"""A fingerprint of the images a study calibrated and validated on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from autoprune.data.splits import Splits, size_of
from autoprune.fingerprint import DIGITS, Digest, add_tensor

SAMPLES = 16


def data_fingerprint(splits: Splits) -> str:
    """Sixteen hex digits over the sizes of calibration and validation and some of their samples."""
    digest = hashlib.sha256()
    for name, dataset in (("calibration", splits.calibration), ("validation", splits.validation)):
        _add_dataset(digest, name, dataset)
    return digest.hexdigest()[:DIGITS]


def fingerprint_of_dataset(dataset: Dataset[Any], indices: Sequence[int] | None = None) -> str:
    """Sixteen hex digits over the number of samples and some of them, of those at `indices` where given."""
    digest = hashlib.sha256()
    _add_dataset(digest, "dataset", dataset, indices)
    return digest.hexdigest()[:DIGITS]


def _add_dataset(
    digest: Digest, name: str, dataset: Dataset[Any], indices: Sequence[int] | None = None
) -> None:
    chosen = range(size_of(dataset, name)) if indices is None else indices
    count = len(chosen)
    digest.update(f"{name}|{count}|".encode())
    for place in sorted({count * step // SAMPLES for step in range(SAMPLES)} if count else ()):
        _add(digest, str(place), dataset[int(chosen[place])])


def _add(digest: Digest, name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        add_tensor(digest, name, value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _add(digest, f"{name}.{key}", item)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _add(digest, f"{name}.{position}", item)
    else:
        digest.update(f"{name}|{value!r}|".encode())
