"""Follow a layer's output through its batch norm to the residual sum it enters and the activation behind.

Seen on the running network, not on its graph: a layer's output tensor is recognised by identity when a
batch norm reads it, when a sum takes it as an operand and when a clamp such as ReLU is applied to it.
Nothing here changes what is computed unless a handler returns another tensor.
"""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.calibration.call import Function, LayerCall
from autoprune.calibration.deferral import QUERIES, Deferred
from autoprune.calibration.taps import LayerTap
from autoprune.calibration.trees import leaves
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
class Clamp:
    """An activation that lets values between `low` and `high` pass and cuts the others off there."""

    low: float = 0.0
    high: float = math.inf


@dataclass(frozen=True)
class Branch:
    """A layer call whose output is still waiting to be used; `order` counts calls.

    `norm` are the arguments of the batch norm it went through, `summed` says that it has entered a residual
    sum.
    """

    call: LayerCall
    order: int
    norm: Mapping[str, Any] | None = None
    summed: bool = False

    @cached_property
    def affine(self) -> Affine | None:
        """What that batch norm does."""
        return None if self.norm is None else _affine(self.norm)


class FlowHandler:
    """What is done on the way; the defaults only watch."""

    def on_layer(self, call: LayerCall) -> Tensor | None:
        """The layer runs; return its output, or None to have it computed only if anything but a batch
        norm and a residual sum asks for it."""
        return call.run()

    def on_sum(self, branch: Branch, other: Tensor, total: Callable[[], Tensor]) -> Tensor | None:
        """The branch is added to `other`; return another total to replace `total()`."""
        return None

    def on_clamp(self, branch: Branch, clamp: Clamp) -> None:
        """The branch goes through a clamp; nothing else has read it so far."""

    def on_use(self, branch: Branch) -> None:
        """Anything else reads the branch."""


class FlowTap(LayerTap):
    """A `LayerTap` that also reports residual sums, `total = branch + other`, and clamps."""

    def __init__(self, model: nn.Module, layers: Iterable[Layer], flow: FlowHandler) -> None:
        # A handler of its own would be a cycle, and hold a candidate's tensors until cycles are looked for.
        super().__init__(model, layers, None)
        self._flow = flow
        self._open: dict[int, tuple[weakref.ref[Tensor], Branch]] = {}
        self._deferred = Deferred()
        self._read: set[tuple[str, bool]] = set()
        self._calls = 0

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in QUERIES:
            return func(*args, **kwargs)
        if func is F.batch_norm:
            return self._batch_norm(func, args, kwargs)
        if func in SUMS and len(args) == 2 and not kwargs:
            return self._sum(func, *args)
        args, kwargs = self._deferred.computed((args, kwargs))
        self._report(func, args, kwargs)
        output = super().__torch_function__(func, types, args, kwargs)
        if func in CLAMPS and output is _first(args, kwargs):
            # Cut off in place: whoever reads the tensor from now on reads what the clamp gave.
            self._open.pop(id(output), None)
        return output

    def _handle(self, call: LayerCall) -> Tensor:
        output = self._flow.on_layer(call)
        if output is None:
            output = self._deferred.promise(call.run, call.output_shape(), call.input)
        self._calls += 1
        self._remember(output, Branch(call, self._calls))
        return output

    def _batch_norm(self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        named = _named(F.batch_norm, args, kwargs)
        given = named.pop("input")
        branch = self._find(given)
        fits = branch is not None and branch.norm is None and not branch.summed
        if branch is None or not fits or named["training"]:
            if branch is not None:
                self._used(branch)
            args, kwargs = self._deferred.computed((args, kwargs))
            output: Tensor = func(*args, **kwargs)
            return output
        output = self._deferred.mapped(given, lambda value: func(value, **named))
        self._remember(output, Branch(branch.call, branch.order, named))
        return output

    def _sum(self, func: Function, left: Any, right: Any) -> Any:
        same = isinstance(left, Tensor) and isinstance(right, Tensor) and left.shape == right.shape
        pairs = [(self._find(left), right), (self._find(right), left)]
        branches = [(branch, other) for branch, other in pairs if branch is not None and self._waits(branch)]
        # One layer on both sides, such as y + y or bn(y) + y: what is added is no shortcut.
        orders = [branch.order for branch, _ in pairs if branch is not None]
        if not same or not branches or len(set(orders)) < len(orders):
            for branch, _ in pairs:
                if branch is not None:
                    self._used(branch)
            return func(*self._deferred.computed((left, right)))
        branch, other = min(branches, key=lambda item: item[0].order)
        # An in-place sum may overwrite `other`, which the handler needs as it was.
        replaced = self._flow.on_sum(branch, self._deferred.computed(other), lambda: self._total(left, right))
        total = self._total(left, right) if replaced is None else replaced
        if func in _IN_PLACE:
            total = self._deferred.overwritten(left, total)
        self._remember(total, Branch(branch.call, branch.order, branch.norm, summed=True))
        return total

    def _total(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.add(*self._deferred.computed((left, right)))

    def _waits(self, branch: Branch) -> bool:
        """Whether nothing has read the branch yet, so that its sum is what it is for."""
        return not branch.summed and (branch.call.layer.name, False) not in self._read

    def _report(self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._open:
            return
        clamp = clamp_of(func, args, kwargs)
        for value in leaves((args, kwargs)):
            branch = self._find(value)
            if branch is None:
                continue
            first = (branch.call.layer.name, branch.summed) not in self._read
            if clamp is not None and value is _first(args, kwargs) and first:
                self._read.add((branch.call.layer.name, branch.summed))
                self._flow.on_clamp(branch, clamp)
            else:
                self._used(branch)

    def _used(self, branch: Branch) -> None:
        self._read.add((branch.call.layer.name, branch.summed))
        self._flow.on_use(branch)

    def returned(self, output: Any) -> None:
        """The pass gives this back: whoever called reads it."""
        for value in leaves(output):
            if (branch := self._find(value)) is not None:
                self._used(branch)

    def __exit__(self, *details: Any) -> None:
        leave: Callable[..., None] = super().__exit__  # torch gives it no types
        leave(*details)
        self._open.clear()
        self._deferred.clear()

    def _remember(self, tensor: Tensor, branch: Branch) -> None:
        # A branch holds its layer's input: it must go as soon as nobody can use its output any more.
        key, opened = id(tensor), self._open
        opened[key] = (weakref.ref(tensor, lambda _: opened.pop(key, None)), branch)

    def _find(self, tensor: Any) -> Branch | None:
        reference, branch = self._open.get(id(tensor), (None, None))
        return branch if reference is not None and reference() is tensor else None


def _affine(arguments: Mapping[str, Any]) -> Affine:
    mean, var = arguments["running_mean"], arguments["running_var"]
    scale = torch.add(var, arguments["eps"]).rsqrt()
    if arguments["weight"] is not None:
        scale = torch.mul(scale, arguments["weight"])
    shift = torch.mul(mean, scale).neg_()
    return Affine(scale, shift if arguments["bias"] is None else torch.add(shift, arguments["bias"]))


def clamp_of(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Clamp | None:
    """The clamp that this call applies to its first argument; None for any other function."""
    if func not in CLAMPS or not args:
        return None
    if func is not F.hardtanh:
        return CLAMPS[func]
    named = _named(func, args, kwargs)
    return Clamp(float(named["min_val"]), float(named["max_val"]))


def _named(func: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of the call by name."""
    defaults = _defaults(func)
    return {**defaults, **dict(zip(defaults, args, strict=False)), **kwargs}


@cache
def _defaults(func: Function) -> dict[str, Any]:
    """Every parameter of a function and what it is where it is left out, in order."""
    return {name: each.default for name, each in inspect.signature(func).parameters.items()}


_IN_PLACE: set[Function] = {Tensor.__iadd__, Tensor.add_}
SUMS: set[Function] = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, *_IN_PLACE}
_RELUS: list[Function] = [F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_]
CLAMPS: dict[Function, Clamp] = {
    **dict.fromkeys(_RELUS, Clamp()),
    F.relu6: Clamp(0.0, 6.0),
    F.hardtanh: Clamp(-1.0, 1.0),
}
"""Activations that are a clamp; the bounds of hardtanh are its arguments."""


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a function of one tensor was called with, by place or by name."""
    return args[0] if args else kwargs.get("input")
