"""Writes down a forward pass as a `Trace`.

Two passes with different batch sizes tell which dimensions of which tensors count images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from autoprune.calibration.call import Function
from autoprune.calibration.flow import SUMS
from autoprune.calibration.taps import LayerTap
from autoprune.data.inputs import Inputs
from autoprune.graph.groups import Layer
from autoprune.graph.multi_head import opened
from autoprune.reconstruction.replaying.trace import (
    SMALL,
    Call,
    DiffersEachTime,
    Feature,
    Slot,
    Trace,
    call_name,
    is_query,
)

_LARGE = SMALL + 1
ACTIVATIONS: tuple[Function, ...] = (
    F.relu,
    F.relu6,
    F.gelu,
    F.silu,
    F.elu,
    F.selu,
    F.leaky_relu,
    F.hardswish,
    F.hardtanh,
    F.hardsigmoid,
    F.sigmoid,
    F.tanh,
    F.softplus,
    F.mish,
    torch.relu,
    torch.relu_,
    torch.tanh,
    torch.sigmoid,
    Tensor.relu,
    Tensor.relu_,
    Tensor.tanh,
    Tensor.sigmoid,
)


def record_trace(model: nn.Module, layers: Iterable[Layer], inputs: Inputs) -> Trace:
    """Two forward passes of `model`, which stays as it is; `inputs` has at least one image.

    DiffersEachTime where the passes do not make the same calls.
    """
    layers = list(layers)
    small, large = (_record(model, layers, _repeated(inputs, count)) for count in (SMALL, _LARGE))
    if [call.kind for call in small.calls] != [call.kind for call in large.calls]:
        raise DiffersEachTime
    growth: dict[int, tuple[int, ...]] = {}
    for one, other in zip(small.calls, large.calls, strict=True):
        for a, b in zip(one.writes, other.writes, strict=True):
            growth.setdefault(a.key, tuple(y - x for x, y in zip(a.shape, b.shape, strict=True)))
    twice = frozenset(name for name, count in small.counts.items() if count > 1)
    return Trace(small.calls, small.layers, twice, small.features, growth)


def _repeated(inputs: Inputs, count: int) -> Inputs:
    return inputs.select(torch.arange(count) % inputs.size)


@torch.no_grad()
def _record(model: nn.Module, layers: Sequence[Layer], inputs: Inputs) -> Recorder:
    recorder = Recorder(model, layers)
    with recorder:
        inputs.call(model)
    recorder.forget()
    return recorder


@dataclass
class _Stream:
    """A layer's output on its way: through a norm, into one sum, through one activation."""

    layer: str
    order: int
    summed: bool = False
    normed: bool = False
    activated: bool = False


@dataclass
class _Objects:
    """Keys of tensors by identity; every tensor is kept, so that no identity is used twice."""

    keys: dict[int, int] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)

    def key(self, tensor: Tensor) -> int:
        if id(tensor) not in self.keys:
            self.keys[id(tensor)] = len(self.keys)
            self.kept.append(tensor)
        return self.keys[id(tensor)]


class Recorder(LayerTap):
    """Watches one forward pass."""

    def __init__(self, model: nn.Module, layers: Iterable[Layer]) -> None:
        super().__init__(model, layers, lambda call: None)
        self.calls: list[Call] = []
        self.layers: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.features: dict[str, Feature] = {}
        self._objects = _Objects()
        self._streams: dict[int, _Stream] = {}
        self._read: set[int] = set()

    def forget(self) -> None:
        """Free the tensors of the pass."""
        self._objects = _Objects()

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_query(func, args):
            return func(*args, **kwargs)
        if (inside := opened(func, args, kwargs)) is not None:
            with self:
                return inside(*args, **kwargs)
        match = self._match(func, args, kwargs)
        read = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        keys = tuple(self._objects.key(tensor) for tensor in read)
        output = func(*args, **kwargs)
        self._watch(args, output)
        layer = None if match is None else match.layer.name
        self._note(func, keys, output, layer)
        return output

    def _note(self, func: Function, keys: tuple[int, ...], output: Any, layer: str | None) -> None:
        number = len(self.calls)
        slots = pytree.tree_map_only(Tensor, self._slot, output)
        self.calls.append(Call(call_name(func), keys, slots, layer))
        if isinstance(output, Tensor):
            self._follow(func, number, keys, self._objects.key(output), layer)

    def _slot(self, tensor: Tensor) -> Slot:
        return Slot(self._objects.key(tensor), tuple(tensor.shape), tensor.dtype)

    def _follow(
        self, func: Function, number: int, keys: tuple[int, ...], out: int, layer: str | None
    ) -> None:
        stream = self._stream(func, keys, number, layer)
        self._read.update(keys)
        if stream is None:
            self._streams.pop(out, None)
            return
        self._streams[out] = stream
        known = self.features.get(stream.layer)
        before = known.before if stream.activated and known is not None else number
        self.features[stream.layer] = Feature(before, number)

    def _stream(
        self, func: Function, keys: tuple[int, ...], number: int, layer: str | None
    ) -> _Stream | None:
        if layer is not None:
            self.layers[layer] = number
            self.counts[layer] = self.counts.get(layer, 0) + 1
            return _Stream(layer, number)
        step = _STEPS.get(func)
        if step is _through_sum:
            # What others have read is a shortcut: the layer at its beginning does not end in this sum.
            keys = tuple(key for key in keys if key not in self._read)
        found = [self._streams[key] for key in keys if key in self._streams]
        return step(found) if found and step is not None else None


def _through_norm(found: list[_Stream]) -> _Stream | None:
    stream = found[0]
    if stream.normed or stream.summed or stream.activated:
        return None
    return _Stream(stream.layer, stream.order, normed=True)


def _through_sum(found: list[_Stream]) -> _Stream | None:
    # The layer that ran first takes the sum for its target: what the others add is then known.
    fresh = [stream for stream in found if not (stream.summed or stream.activated)]
    if not fresh:
        return None
    first = min(fresh, key=lambda stream: stream.order)
    return _Stream(first.layer, first.order, summed=True)


def _through_activation(found: list[_Stream]) -> _Stream | None:
    stream = found[0]
    if stream.activated:
        return None
    return _Stream(stream.layer, stream.order, stream.summed, stream.normed, activated=True)


_STEPS: dict[Function, Callable[[list[_Stream]], _Stream | None]] = {
    F.batch_norm: _through_norm,
    **dict.fromkeys(tuple(SUMS), _through_sum),
    **dict.fromkeys(ACTIVATIONS, _through_activation),
}
