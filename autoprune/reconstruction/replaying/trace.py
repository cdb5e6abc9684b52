"""What a forward pass does: its torch functions in order, what each reads and writes, and where features are.

Modules run the same functions in the same order whatever the widths, so a call number means the same in
the dense network and in a candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from autoprune.calibration.call import Function
from autoprune.errors import ModelError

SMALL = 2
"""Images of the pass that shapes are written down from."""
SIZE_QUERIES: set[Function] = {
    Tensor.dim,
    Tensor.size,
    Tensor.stride,
    Tensor.numel,
    Tensor.is_contiguous,
    Tensor.__len__,
    torch.numel,
    *(getattr(owner, name) for owner in (torch, Tensor) for name in ("is_floating_point", "is_complex")),
    *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "is_nested")),
}
"""Not counted as calls: stand-ins answer them, and an attention that has lost heads asks other ones."""


class DiffersEachTime(ModelError):
    """Two passes of the network do not make the same calls."""

    def __init__(self) -> None:
        super().__init__(
            "the network does not run the same functions each time, so its parts cannot be trained; "
            "use reconstruction 'sequential'."
        )


@dataclass(frozen=True)
class Call:
    """One torch function: keys of the tensors it reads, and what it returned, tensors as `Slot`s."""

    name: str
    reads: tuple[int, ...]
    output: Any
    layer: str | None

    @property
    def kind(self) -> tuple[str, int]:
        """What it has in common with the same call in a pass over other images."""
        return self.name, len(self.writes)

    @property
    def writes(self) -> list[Slot]:
        return [leaf for leaf in pytree.tree_leaves(self.output) if isinstance(leaf, Slot)]


@dataclass(frozen=True)
class Slot:
    """A tensor of the pass. `key` is the same for all calls that return the same object."""

    key: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Feature:
    """Where a layer's output ends up: numbers of the calls that give it before and after its activation."""

    before: int
    after: int


@dataclass(frozen=True)
class Trace:
    """`growth[key]` is how much each dimension of a tensor grows with one image more."""

    calls: Sequence[Call]
    layers: dict[str, int]
    repeated: frozenset[str]
    features: dict[str, Feature]
    growth: dict[int, tuple[int, ...]]

    def shape(self, slot: Slot, batch: int) -> tuple[int, ...]:
        """The tensor's shape in a pass over `batch` images."""
        grown = zip(slot.shape, self.growth[slot.key], strict=True)
        return tuple(size + step * (batch - SMALL) for size, step in grown)

    def live(self, cut: int) -> set[int]:
        """Tensors made before call number `cut` that it or a later call reads."""
        made = {slot.key for call in self.calls[:cut] for slot in call.writes}
        return made & {key for call in self.calls[cut:] for key in call.reads}


def check_alike(dense: Trace, candidate: Trace) -> None:
    """DiffersEachTime unless a number means the same call in both."""
    if [call.kind for call in dense.calls] != [call.kind for call in candidate.calls]:
        raise DiffersEachTime


def is_query(func: Function, args: tuple[Any, ...]) -> bool:
    """Whether a call only asks what a tensor is like: its size, or a property that is no tensor itself."""
    return func in SIZE_QUERIES or (call_name(func) == "__get__" and not isinstance(func(*args), Tensor))


def call_name(func: Function) -> str:
    """What tells two passes of the same code apart from two different ones."""
    return str(getattr(func, "__name__", func))
