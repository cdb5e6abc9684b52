"""Tensors that are computed only when somebody asks for their values.

A sequential reconstruction refits a layer when its residual sum comes; the layer's old output, and its
normalised form, would be computed for nothing. A promise stands in for them: a tensor of the right
shape without memory of its own, which is replaced before any function reads its values.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from autoprune.calibration.call import Function
from autoprune.calibration.trees import with_tensors

T = TypeVar("T")

QUERIES: set[Function] = {
    Tensor.dim,
    Tensor.size,
    Tensor.is_floating_point,
    *(
        getattr(Tensor, name).__get__
        for name in ("shape", "ndim", "dtype", "device", "requires_grad", "is_cuda", "layout")
    ),
}
"""Functions that read no values: a promise answers them as the tensor itself would."""


class Deferred:
    """The promises of one forward pass."""

    def __init__(self) -> None:
        self._makers: dict[int, tuple[weakref.ref[Tensor], Callable[[], Tensor]]] = {}
        self._values: dict[int, Tensor] = {}

    def promise(self, make: Callable[[], Tensor], shape: Sequence[int], like: Tensor) -> Tensor:
        """A stand-in for `make()`, which has this shape, and type and device of `like`."""
        stand_in = like.new_zeros(()).expand(tuple(shape))
        key = id(stand_in)
        self._makers[key] = (weakref.ref(stand_in, lambda _: self._forget(key)), make)
        return stand_in

    def computed(self, tree: T) -> T:
        """The same structure with every promise in it kept."""
        if not self._makers:
            return tree
        found: T = with_tensors(self._value, tree)
        return found

    def mapped(self, tensor: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """`change(tensor)`, a function that keeps the shape; of a promise, a promise."""
        if self._is_open(tensor):
            return self.promise(lambda: change(self._value(tensor)), tensor.shape, tensor)
        return change(self._value(tensor))

    def overwritten(self, tensor: Tensor, value: Tensor) -> Tensor:
        """`tensor` after `value` was written into it in place."""
        if not self._is_promise(tensor):
            return tensor.copy_(value)
        # The stand-in has no memory to write to: whoever still holds it will find the value here.
        self._values[id(tensor)] = value
        return value

    def clear(self) -> None:
        self._makers.clear()
        self._values.clear()

    def _is_promise(self, tensor: Any) -> bool:
        reference, _ = self._makers.get(id(tensor), (None, None))
        return reference is not None and reference() is tensor

    def _is_open(self, tensor: Any) -> bool:
        return self._is_promise(tensor) and id(tensor) not in self._values

    def _value(self, tensor: Tensor) -> Tensor:
        if not self._is_promise(tensor):
            return tensor
        if id(tensor) not in self._values:
            self._values[id(tensor)] = self._makers[id(tensor)][1]()
        return self._values[id(tensor)]

    def _forget(self, key: int) -> None:
        self._makers.pop(key, None)
        self._values.pop(key, None)
