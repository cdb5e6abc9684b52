"""Labels: which channel every element of an activation came from.

A label is a positive int64; 0 means "constant": padding, the network's input, anything that comes
from no channel. Along every activation the labels vary over at most one dimension, so a pruned
activation is a dense rectangle and code that reads sizes at run time keeps working.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

CONSTANT = 0


@dataclass(frozen=True)
class Labels:
    """Labels of one activation of size `shape`.

    `vector` holds the label of every index of dimension `dim`, shape (shape[dim],); with `dim` None
    all elements carry the one label in `vector`, shape (1,).
    """

    shape: tuple[int, ...]
    dim: int | None
    vector: Tensor

    @classmethod
    def uniform(cls, shape: tuple[int, ...], label: int = CONSTANT) -> Labels:
        return cls(shape, None, torch.tensor([label], dtype=torch.int64))

    @classmethod
    def along(cls, shape: tuple[int, ...], dim: int, vector: Tensor) -> Labels:
        """Labels `vector` (shape[dim],) along `dim`; all the same label means no channel dimension."""
        if vector.numel() == 0:
            return cls.uniform(shape)
        if bool((vector == vector[0]).all()):
            return cls(shape, None, vector[:1])
        return cls(shape, dim % len(shape), vector)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def varies_along(self, *dims: int) -> bool:
        return self.dim is not None and self.dim in {dim % max(self.ndim, 1) for dim in dims}

    def vector_along(self, dim: int) -> Tensor | None:
        """Label of every index of `dim`, shape (shape[dim],); None when labels vary along another."""
        dim %= self.ndim
        if self.dim is None:
            return self.vector.expand(self.shape[dim])
        return self.vector if self.dim == dim else None

    def expanded(self) -> Tensor:
        """An int64 tensor of size `shape`; a view with stride 0 wherever labels do not vary."""
        view = [1] * self.ndim
        if self.dim is not None:
            view[self.dim] = -1
        return self.vector.reshape(view).expand(self.shape)

    def reshaped(self, shape: tuple[int, ...], dim: int | None = None) -> Labels:
        """The same labels on an activation of another size, along `dim` (the same one by default)."""
        if self.dim is None:
            return Labels(shape, None, self.vector)
        return Labels.along(shape, self.dim if dim is None else dim, self.vector)


@dataclass(frozen=True)
class Classes:
    """Result of all unions. `index` maps label -> class, `frozen` maps class -> reason (-1: free)."""

    index: np.ndarray
    frozen: np.ndarray
    reasons: tuple[str, ...]

    @cached_property
    def free(self) -> np.ndarray:
        return self.frozen < 0


class Ledger:
    """Collects unions and freezes as flat edge lists; solved once, at the end."""

    def __init__(self) -> None:
        self._next = CONSTANT + 1
        self._edges: list[np.ndarray] = []
        self._frozen: list[tuple[np.ndarray, int]] = []
        self._reasons: dict[str, int] = {}
        self.lenient = False
        """Nothing is frozen meanwhile."""

    def fresh(self, count: int) -> Tensor:
        """`count` new labels, shape (count,)."""
        start, self._next = self._next, self._next + count
        return torch.arange(start, self._next, dtype=torch.int64)

    def unite(self, left: Tensor, right: Tensor, reason: str) -> None:
        """Tie labels pair by pair (broadcast); a label that meets the constant is frozen for `reason`."""
        pairs = np.stack(
            [side.reshape(-1) for side in np.broadcast_arrays(left.numpy(), right.numpy())], axis=1
        )
        constant = (pairs == CONSTANT).any(axis=1)
        if constant.any():
            self.freeze(torch.from_numpy(pairs[constant]), reason)
        pairs = pairs[~constant & (pairs[:, 0] != pairs[:, 1])]
        if len(pairs):
            self._edges.append(pairs)

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Keep every channel in `labels` dense; the first reason given is the one reported."""
        if self.lenient:
            return
        found = np.unique(labels.numpy())
        found = found[found != CONSTANT]
        if len(found):
            self._frozen.append((found, self._reasons.setdefault(reason, len(self._reasons))))

    def classes(self) -> Classes:
        edges = np.concatenate(self._edges) if self._edges else np.zeros((0, 2), dtype=np.int64)
        links = coo_matrix(
            (np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), (self._next,) * 2
        )
        count, index = connected_components(links, directed=False)
        frozen = np.full(count, -1, dtype=np.int64)
        for labels, reason in reversed(self._frozen):
            frozen[index[labels]] = reason
        reasons = tuple(self._reasons)
        frozen[index[CONSTANT]] = len(reasons)
        return Classes(index, frozen, (*reasons, "not computed by a layer"))


def settle(labels: Tensor, ledger: Ledger, reason: str, prefer: int | None = None) -> Labels:
    """Labels (int64, any shape) with one channel dimension: the widest that varies, the last among equals.

    Along every other dimension that varies, the labels are tied. `prefer` names a dimension that is
    chosen if it varies at all.
    """
    shape = tuple(labels.shape)
    if labels.numel() == 0:
        return Labels.uniform(shape)
    varying = []
    for dim in range(labels.dim()):
        first = labels.narrow(dim, 0, 1)
        if labels.size(dim) == 1 or labels.stride(dim) == 0 or bool((labels == first).all()):
            labels = first
        else:
            varying.append(dim)
    if not varying:
        return Labels(shape, None, labels.reshape(-1).clone())
    keep = max(varying, key=lambda dim: (dim == prefer, shape[dim], dim))
    rows = labels.movedim(keep, 0).reshape(shape[keep], -1)
    if rows.size(1) > 1:
        ledger.unite(rows[:, :1], rows[:, 1:], reason)
    return Labels.along(shape, keep, rows[:, 0].clone())
