"""Follow a layer's output through its batch norm to the residual sum it enters.

Seen on the running network, not on its graph: a layer's output tensor is recognised by identity when a
batch norm reads it and when a sum takes it as an operand. Nothing here changes what is computed unless
a handler returns another tensor.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.calibration.taps import Function, LayerCall, LayerTap
from autoprune.graph.groups import Layer


@dataclass(frozen=True)
class Affine:
    """What a frozen batch norm does per channel: `scale * y + shift`, both of shape (channels,)."""

    scale: Tensor
    shift: Tensor

    def apply(self, output: Tensor) -> Tensor:
        """The normalised layer output, channels in dimension 1."""
        shape = (-1, *[1] * (output.dim() - 2))
        return output * self.scale.reshape(shape) + self.shift.reshape(shape)


@dataclass(frozen=True)
class Branch:
    """A layer call whose (normalised) output is still waiting to be used; `order` counts calls."""

    call: LayerCall
    order: int
    affine: Affine | None = None


class FlowHandler(Protocol):
    def on_layer(self, call: LayerCall) -> Tensor:
        """The layer runs; return its output."""

    def on_sum(self, branch: Branch, other: Tensor, total: Tensor) -> Tensor | None:
        """The branch is added to `other`; return another total to replace it."""


class FlowTap(LayerTap):
    """A `LayerTap` that also reports residual sums: `total = branch + other`."""

    def __init__(self, model: nn.Module, layers: Iterable[Layer], flow: FlowHandler) -> None:
        super().__init__(model, layers, self._on_call)
        self._flow = flow
        self._open: dict[int, tuple[weakref.ref[Tensor], Branch]] = {}
        self._calls = 0

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self._batch_norm(func, args, kwargs)
        if func in SUMS and len(args) == 2 and not kwargs:
            return self._sum(func, *args)
        return super().__torch_function__(func, types, args, kwargs)

    def _on_call(self, call: LayerCall) -> Tensor:
        output = self._flow.on_layer(call)
        self._calls += 1
        self._remember(output, Branch(call, self._calls))
        return output

    def _batch_norm(self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        output: Tensor = func(*args, **kwargs)
        bound = _BATCH_NORM.bind(*args, **kwargs)
        bound.apply_defaults()
        branch = self._find(bound.arguments["input"])
        if branch is not None and branch.affine is None and not bound.arguments["training"]:
            self._remember(output, replace(branch, affine=_affine(bound.arguments)))
        return output

    def _sum(self, func: Function, left: Any, right: Any) -> Any:
        found = [(self._find(left), right), (self._find(right), left)]
        same = isinstance(left, Tensor) and isinstance(right, Tensor) and left.shape == right.shape
        branches = [(branch, other) for branch, other in found if branch is not None]
        if not same or not branches:
            return func(left, right)
        branch, other = min(branches, key=lambda item: item[0].order)
        # An in-place sum may overwrite `other`, which the handler needs as it was.
        total = torch.add(left, right)
        replaced = self._flow.on_sum(branch, other, total)
        total = total if replaced is None else replaced
        return left.copy_(total) if func in _IN_PLACE else total

    def __exit__(self, *details: Any) -> None:
        leave: Callable[..., None] = super().__exit__  # torch gives it no types
        leave(*details)
        self._open.clear()

    def _remember(self, tensor: Tensor, branch: Branch) -> None:
        # A branch holds its layer's input: it must go as soon as nobody can use its output any more.
        key, opened = id(tensor), self._open
        opened[key] = (weakref.ref(tensor, lambda _: opened.pop(key, None)), branch)

    def _find(self, tensor: Any) -> Branch | None:
        reference, branch = self._open.get(id(tensor), (None, None))
        return branch if reference is not None and reference() is tensor else None


def _affine(arguments: dict[str, Any]) -> Affine:
    mean, var = arguments["running_mean"], arguments["running_var"]
    scale = (var + arguments["eps"]).rsqrt()
    if arguments["weight"] is not None:
        scale = scale * arguments["weight"]
    shift = -mean * scale
    return Affine(scale, shift if arguments["bias"] is None else shift + arguments["bias"])


_BATCH_NORM = inspect.signature(F.batch_norm)
_IN_PLACE: set[Function] = {Tensor.__iadd__, Tensor.add_}
SUMS: set[Function] = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, *_IN_PLACE}
