"""Spread labels: an activation whose labels vary along several dimensions, such as heads and their channels.

Which dimension the channels run along is left open until an operator needs to know, or until the end of
the walk: an attention product, for one, ties the channels of a head, and what is left varies over heads.
At the end each of them must vary along one dimension only, so that what is pruned is a dense rectangle.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoprune.graph.labels import Classes, Labels, Ledger, settle


@dataclass(eq=False)
class Spread:
    """Labels, int64, of the activation's size; stride 0 along every dimension that they do not vary along.

    `settled` is what they became where an operator needed one channel dimension.
    """

    tensor: Tensor
    settled: Labels | None = field(default=None)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        return self.tensor.dim()

    def expanded(self) -> Tensor:
        return self.tensor

    def settle(self, ledger: Ledger, reason: str, prefer: int | None = None) -> Labels:
        """The labels along one dimension, tied along the others; the same each time.

        It is `prefer` where they vary along it, else the widest.
        """
        if self.settled is None:
            self.settled = settle(self.tensor, ledger, reason, prefer)
        return self.settled


def varying(labels: Tensor) -> list[int]:
    """Dimensions along which labels vary."""
    found = []
    for dim in range(labels.dim()):
        first = labels.narrow(dim, 0, min(1, labels.size(dim)))
        if labels.size(dim) == 1 or labels.stride(dim) == 0 or bool((labels == first).all()):
            labels = first
        else:
            found.append(dim)
    return found


def gathered(labels: Tensor) -> Labels | Spread:
    """The labels (int64, any shape) as they vary: along at most one dimension, or spread."""
    shape = tuple(labels.shape)
    if labels.numel() == 0:
        return Labels.uniform(shape)
    dims = varying(labels)
    core = narrowed(labels, [dim for dim in range(labels.dim()) if dim not in dims])
    if len(dims) <= 1:
        return Labels(shape, dims[0] if dims else None, core.reshape(-1).clone())
    return Spread(core.expand(shape))


def narrowed(labels: Tensor, dims: Collection[int]) -> Tensor:
    """The first index along each of `dims`, which stay with size 1."""
    for dim in dims:
        labels = labels.narrow(dim, 0, 1)
    return labels


def tied(labels: Tensor, dims: Collection[int], ledger: Ledger, reason: str) -> Tensor:
    """Labels after those along `dims` were tied to the first of each; the same size."""
    shape = labels.shape
    for dim in dims:
        first = labels.narrow(dim, 0, 1)
        if labels.stride(dim) != 0 and labels.size(dim) > 1:
            ledger.unite(first, labels, reason)
        labels = first
    return labels.expand(shape)


def settle_all(spreads: Sequence[Spread], ledger: Ledger) -> Classes:
    """Tie until every activation's channels run along one dimension; the final classes.

    Activations are looked at in order of execution: the first to decide is the first that must.
    """
    classes = ledger.classes()
    start = 0
    while (found := _first_unsettled(spreads, classes, start)) is not None:
        start, tensor = found, spreads[found].tensor
        _settle_by_classes(tensor, classes, ledger)
        classes = ledger.classes()
    return classes


def _first_unsettled(spreads: Sequence[Spread], classes: Classes, start: int) -> int | None:
    # Ties only ever make fewer dimensions vary, so what was in order stays so.
    for number in range(start, len(spreads)):
        if len(varying(class_numbers(spreads[number].tensor, classes))) > 1:
            return number
    return None


def class_numbers(labels: Tensor, classes: Classes) -> Tensor:
    """The class of every label, int64, of the same size; stride 0 is kept."""
    flat = [dim for dim in range(labels.dim()) if labels.stride(dim) == 0]
    core = narrowed(labels, flat)
    return torch.from_numpy(classes.index[core.numpy()].astype("int64")).expand(labels.shape)


def _settle_by_classes(labels: Tensor, classes: Classes, ledger: Ledger) -> None:
    dims = varying(class_numbers(labels, classes))
    keep = max(dims, key=lambda dim: (labels.shape[dim], dim))
    tied(labels, [dim for dim in dims if dim != keep], ledger, "folds a constant into channels")
