"""Run a part of a forward pass on what was kept from the part before it.

The module's own code runs; torch functions before the cut are not computed but answered from the
cache, or, where nobody will read the values, by placeholders without memory. So a group's small model
can be trained over and over without the layers above it, whatever class the network is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from autoprune.calibration.call import Function
from autoprune.data.inputs import Inputs
from autoprune.errors import ModelError
from autoprune.graph.multi_head import opened
from autoprune.reconstruction.casm.trace import Call, DiffersEachTime, Slot, Trace, call_name, is_query


@dataclass
class Cache:
    """Tensors live at call number `cut`: per image (images, rows per image, ...), or one for all images.

    `dims` says which dimension of a tensor its images lie along, where that is not the first; images
    are handed out in `layout`.
    """

    cut: int = 0
    tensors: dict[int, Tensor] = field(default_factory=dict)
    shared: dict[int, Tensor] = field(default_factory=dict)
    dims: dict[int, int] = field(default_factory=dict)
    layout: torch.memory_format = torch.channels_last

    def rows(self, index: Tensor) -> dict[int, Tensor]:
        """Values for the chosen images (batch,), as the pass would see them; copies."""
        chosen = {
            key: value[index.to(value.device)]
            .flatten(0, 1)
            .movedim(0, self.dims.get(key, 0))
            .contiguous(memory_format=self._format(value))
            for key, value in self.tensors.items()
        }
        return {**{key: value.clone() for key, value in self.shared.items()}, **chosen}

    def put(self, trace: Trace, key: int, slot: int, value: Tensor, images: slice, count: int) -> None:
        """Take in, as tensor `slot`, what a pass over some of `count` images gave for the trace's `key`.

        In place: there is never a second copy of all of it.
        """
        dim = image_dim(trace, key)
        # Images need not lie along the first dimension, nor be one row there: folded frames, tokens first.
        if dim is None:
            self.shared.setdefault(slot, value.clone())
            return
        rows = by_image(trace, key, value, dim)
        if slot not in self.tensors:
            self.tensors[slot], self.dims[slot] = _room(rows, count), dim
        self.tensors[slot][images] = rows

    def _format(self, value: Tensor) -> torch.memory_format:
        return self.layout if value.dim() == 5 else torch.contiguous_format


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


def in_order(images: int, batch: int) -> Iterator[Tensor]:
    """Numbers of all images in batches."""
    for start in range(0, images, batch):
        yield torch.arange(start, min(start + batch, images))


def spanned(index: Tensor) -> slice:
    """Images that follow each other, as `in_order` gives them."""
    return slice(int(index[0]), int(index[-1]) + 1)


def _room(rows: Tensor, count: int) -> Tensor:
    """For so many images like these, in their order in memory."""
    one = torch.empty_like(rows[0])
    return rows.new_empty_strided((count, *one.shape), (one.numel(), *one.stride()))


def image_dim(trace: Trace, key: int) -> int | None:
    """The dimension that images lie along; None for what is the same for all."""
    return next((dim for dim, grown in enumerate(trace.growth[key]) if grown > 0), None)


def by_image(trace: Trace, key: int, value: Tensor, dim: int) -> Tensor:
    """A tensor with images along `dim`, perhaps several rows of each, as (images, rows per image, ...)."""
    first = value.movedim(dim, 0)
    return first.reshape(-1, trace.growth[key][dim], *first.shape[1:])
