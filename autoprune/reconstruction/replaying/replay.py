"""Run a part of a forward pass on what was kept from the part before it.

The module's own code runs; torch functions before the cut are not computed but answered from the
cache, or, where nobody will read the values, by placeholders without memory. So a group's small model
can be trained over and over without the layers above it, whatever class the network is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from autoprune.calibration.call import Function
from autoprune.data.inputs import Inputs
from autoprune.errors import ModelError
from autoprune.graph.multi_head import opened
from autoprune.reconstruction.replaying.cache import Cache, in_order, spanned
from autoprune.reconstruction.replaying.trace import Call, DiffersEachTime, Slot, Trace, call_name, is_query

Seen = Callable[[int, Tensor], Tensor | None]
"""Called with a call's number and its output; may return a tensor to go on with."""


class Part(Protocol):
    """Calls number `start` to `end` (not included)."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...


@dataclass(frozen=True)
class Calls:
    """A part as two numbers."""

    start: int
    end: int


class _End(Exception):
    """The part is over; nothing behind it is of interest."""


class Replay(TorchFunctionMode):
    """Runs a part of a pass; `watch` sees the outputs of the calls it names."""

    def __init__(
        self, trace: Trace, part: Part, known: dict[int, Tensor], batch: int, watch: Mapping[int, Seen]
    ) -> None:
        super().__init__()
        self.trace, self.cut, self.end = trace, part.start, part.end
        self.objects, self.batch, self.watch = known, batch, watch
        self._number = 0

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        number, kwargs = self._number, kwargs or {}
        if is_query(func, args):
            return func(*args, **kwargs)
        if (inside := opened(func, args, kwargs)) is not None:
            with self:
                return inside(*args, **kwargs)
        if number >= self.end:
            raise _End
        call = self._expected(number, func)
        self._number += 1
        if number < self.cut:
            return self._skipped(call, func, args, kwargs)
        output = func(*args, **kwargs)
        seen = self.watch.get(number)
        replaced = None if seen is None else seen(number, output)
        output = output if replaced is None else replaced
        self._remember(call, output)
        if self._number == self.end:
            raise _End
        return output

    def _expected(self, number: int, func: Function) -> Call:
        calls = self.trace.calls
        if number >= len(calls) or calls[number].name != call_name(func):
            raise DiffersEachTime
        return calls[number]

    def _skipped(self, call: Call, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not call.writes:
            # A size or a type: placeholders know theirs.
            return _asked(func, args, kwargs)
        return pytree.tree_map_only(Slot, self._stand_in, call.output)

    def _stand_in(self, slot: Slot) -> Tensor:
        if slot.key not in self.objects:
            shape = self.trace.shape(slot, self.batch)
            self.objects[slot.key] = torch.empty(shape, dtype=slot.dtype, device="meta")
        return self.objects[slot.key]

    def _remember(self, call: Call, output: Any) -> None:
        slots, leaves = call.writes, [x for x in pytree.tree_leaves(output) if isinstance(x, Tensor)]
        for slot, leaf in zip(slots, leaves, strict=True):
            self.objects[slot.key] = leaf


def _asked(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return func(*args, **kwargs)
    except (RuntimeError, NotImplementedError) as error:
        if "meta" not in str(error):
            raise
        raise ModelError(
            f"the parts of the network cannot be trained alone: its forward asks for the numbers in a tensor "
            f"({call_name(func)}); use reconstruction 'sequential'."
        ) from error


def replay(
    network: nn.Module,
    trace: Trace,
    part: Part,
    inputs: Inputs,
    known: dict[int, Tensor],
    watch: Mapping[int, Seen],
) -> dict[int, Tensor]:
    """Run a part of the pass on a batch, from tensors `known` at its beginning; those at its end, by key."""
    mode = Replay(trace, part, known, inputs.size, watch)
    try:
        with mode:
            inputs.call(network)
    except _End:
        pass
    return mode.objects


@torch.no_grad()
def advance(network: nn.Module, trace: Trace, cache: Cache, inputs: Inputs, cut: int, batch: int) -> Cache:
    """The cache at a later cut, from an earlier one."""
    if cut == cache.cut:
        return cache
    live = trace.live(cut)
    part, later = Calls(cache.cut, cut), Cache(cut, layout=cache.layout)
    for index in in_order(inputs.size, batch):
        objects = replay(network, trace, part, inputs.select(index), cache.rows(index), {})
        for key in live:
            later.put(trace, key, key, objects[key].detach(), spanned(index), inputs.size)
    return later
