"""The training images of an epoch, shuffled and in batches of nearly equal size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from autoprune.data.fingerprint import fingerprint_of_dataset
from autoprune.data.inputs import Inputs
from autoprune.data.labelled import labelled_pair
from autoprune.data.pixels import Pixels, Unlabelled
from autoprune.data.splits import random_order, size_of
from autoprune.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Images to train on: a dataset of (input, label) pairs, or of inputs where no labels are needed.

    `indices` are those to use (all by default), `workers` the processes that read a dataset which is not
    in memory.
    """

    dataset: Dataset[Any]
    indices: Sequence[int] | None = None
    workers: int = 0

    @classmethod
    def of(cls, dataset: Dataset[Any], *, images: int | None = None, workers: int = 0) -> TrainingData:
        """`images` of the dataset, the same random sample each time; DataError where it has fewer."""
        available = size_of(dataset, "the training split")
        if available == 0 or (images is not None and images > available):
            raise DataError(f"training needs {images or 'some'} images, but the split holds {available}.")
        return cls(
            dataset=dataset,
            indices=None if images is None else random_order(available)[:images],
            workers=workers,
        )

    def __len__(self) -> int:
        return size_of(self.dataset) if self.indices is None else len(self.indices)

    @property
    def _inner(self) -> Dataset[Any]:
        return self.dataset.labelled if isinstance(self.dataset, Unlabelled) else self.dataset

    def identity(self) -> dict[str, Any]:
        """What tells these images from others: their number and, where they are in memory, a fingerprint. A
        dataset of the user's may draw a sample anew whenever it is asked."""
        known = fingerprint_of_dataset(self._inner, self.indices) if _takes_batches(self._inner) else None
        return {"images": len(self), "data": known}

    def batches(self, batch_size: int, seed: int) -> Iterator[Any]:
        """All images once, in an order that `seed` decides, in batches of at most `batch_size`.

        Their sizes differ by one at most, for batch norm does badly on a small last one.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        if self.indices is not None:
            order = torch.as_tensor(self.indices)[order]
        parts = torch.tensor_split(order, steps_per_epoch(len(self), batch_size))
        if _takes_batches(self._inner):
            return (self.dataset[part] for part in parts)
        sampler = [part.tolist() for part in parts]
        return iter(
            DataLoader(self.dataset, batch_sampler=sampler, num_workers=self.workers, generator=generator)
        )


def _takes_batches(dataset: Dataset[Any]) -> bool:
    """Whether an index of many images gives their batch: not of a user's own class, which may transform
    single images."""
    return type(dataset) in (Pixels, TensorDataset)


def steps_per_epoch(images: int, batch_size: int) -> int:
    return -(-images // batch_size)


def labelled(batch: Any, *, needed: bool, most: float = math.inf) -> tuple[Inputs, Tensor | None]:
    """Inputs and labels of a batch, for a network that takes at most so many positional inputs; labels that
    are not `needed` may be absent. DataError otherwise."""
    if not needed:
        return Inputs.of(batch, most), None
    return labelled_pair(batch, "training batches", "without labels, set distillation = 1")
