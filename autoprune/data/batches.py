"""From whatever holds images to batches on a device; empty and non-finite ones are refused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from autoprune.data.inputs import Inputs
from autoprune.data.pixels import Pixels, Unlabelled
from autoprune.data.splits import size_of
from autoprune.errors import DataError

BATCH_SIZE = 256
Device = torch.device | str
Source = Tensor | Mapping[str, Tensor] | Inputs | Dataset[Any] | Iterable[Any]


class Loader:
    """The batches of a dataset in order, on a device. Iterate as often as needed."""

    def __init__(self, dataset: Dataset[Any], batch_size: int, device: Device, workers: int) -> None:
        self.dataset, self.batch_size, self.device, self.workers = dataset, batch_size, device, workers

    def __len__(self) -> int:
        return -(-size_of(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        for batch in _collated(self.dataset, self.batch_size, self.workers):
            yield _to(batch, self.device)


def loader(
    dataset: Dataset[Any], batch_size: int = BATCH_SIZE, device: Device = "cpu", *, workers: int = 0
) -> Loader:
    """Batches of at most `batch_size` samples, as the dataset yields them: (inputs, labels) or inputs.

    `workers` are processes that decode; datasets in memory need none. DataError for an empty dataset.
    """
    _check_batch_size(batch_size)
    if size_of(dataset) == 0:
        raise DataError("there must be at least one image, got an empty dataset")
    return Loader(dataset, batch_size, device, workers)


class InputBatches:
    """Batches of inputs, each checked as it passes. Iterate as often as needed."""

    def __init__(self, source: Source, batch_size: int, most: float) -> None:
        # An iterator or a generator can be read only once.
        self.source = list(source) if isinstance(source, Iterator) else source
        self.batch_size, self.most = batch_size, most

    def __iter__(self) -> Iterator[Inputs]:
        empty = True
        for number, raw in enumerate(_raw_batches(self.source, self.batch_size, self.most)):
            batch = Inputs.of(raw, self.most)
            _check_finite(batch, number)
            empty = empty and batch.size == 0
            if batch.size:
                yield batch
        if empty:
            raise DataError("there must be at least one image, got none; check the loader")


def as_batches(calibration: Source, batch_size: int = BATCH_SIZE, most: float = math.inf) -> Iterable[Inputs]:
    """Batches of inputs, to be iterated as often as needed.

    A tensor (N, ...), a tuple or mapping of tensors, `Inputs` or a dataset is cut into batches of
    `batch_size`; a DataLoader, list or another iterable keeps its own batches, read as `Inputs.of` says for
    a network that takes at most so many positional inputs.
    While it is iterated, an empty source, a batch that is no tensor, NaN and infinity raise DataError.
    """
    _check_batch_size(batch_size)
    if not isinstance(calibration, Tensor | Mapping | Inputs | Dataset | Iterable):
        found = type(calibration).__name__
        raise DataError(f"calibration data must be a tensor, dataset or iterable of batches, got {found}")
    return InputBatches(calibration, batch_size, most)


def check_images(source: Source) -> int:
    """Read everything once and count the images; DataError when there are none or one is not finite."""
    return sum(batch.size for batch in as_batches(source))


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")


def _check_finite(batch: Inputs, number: int) -> None:
    for value in batch.tensors:
        if (value.is_floating_point() or value.is_complex()) and not value.isfinite().all():
            raise DataError(f"images must be finite, but batch {number} holds NaN or infinity; clean them")


def _raw_batches(source: Source, batch_size: int, most: float) -> Iterable[Any]:
    if isinstance(source, tuple) and source and all(isinstance(item, Tensor) for item in source):
        # As everywhere in torch, a tuple of tensors is one call's inputs, or inputs and their labels.
        if len({len(item) for item in source if item.ndim}) > 1:
            raise DataError(
                "a tuple of tensors is the inputs of one call, and must share one batch size; pass batches "
                "as a list."
            )
        source = Inputs.of(source, most)
    if isinstance(source, Tensor | Mapping | Inputs):
        whole = Inputs.of(source)
        return (whole.slice(start, start + batch_size) for start in range(0, whole.size, batch_size))
    return _collated(source, batch_size, workers=0) if isinstance(source, Dataset) else source


def _collated(dataset: Dataset[Any], batch_size: int, workers: int) -> Iterable[Any]:
    if _takes_slices(dataset):
        count = len(dataset)
        return (dataset[start : start + batch_size] for start in range(0, count, batch_size))
    if not isinstance(dataset, IterableDataset) and size_of(dataset) == 0:
        return ()
    return DataLoader(dataset, batch_size=batch_size, num_workers=workers)


def _takes_slices(dataset: Dataset[Any]) -> TypeGuard[Pixels | TensorDataset | Unlabelled]:
    inner = dataset.labelled if isinstance(dataset, Unlabelled) else dataset
    return isinstance(inner, Pixels | TensorDataset)


def _to(value: Any, device: Device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _to(item, device) for name, item in value.items()}
    return [_to(item, device) for item in value] if isinstance(value, list | tuple) else value
