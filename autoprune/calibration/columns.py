"""A layer call as a plain linear map: inputs and outputs as matrices with one column per position.

A convolution is `y = W u` at every output position, with `u` the input patch. On large images most
positions say the same, so a regular grid with a moving offset stands for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from autoprune.calibration.call import LayerCall


@dataclass(frozen=True)
class Grid:
    """Every `steps[d]`-th output position along spatial dimension d (all where none is given).

    `offset` moves the grid. At offset 0 it keeps clear of the border, where padding makes patches unlike
    most others.
    """

    steps: tuple[int, ...] = ()
    offset: int = 0

    def index(self, dim: int, size: int) -> slice:
        """Positions along spatial dimension `dim`, which has `size` of them."""
        step = self.steps[dim] if dim < len(self.steps) else 1
        start = (self.offset // math.prod(self.steps[:dim]) + step // 2) % step
        return slice(start if start < size else 0, size, step)


def steps_of(call: LayerCall, output: Tensor, limit: int | None) -> tuple[int, ...]:
    """Steps of a grid over the call's output that leave nearly `limit` positions of one image, or more.

    Where positions take turns, as those of a transposed convolution, every kind of them is on the grid.
    """
    sizes = positions(call, output)
    steps = grid_steps(sizes, limit)
    if not call.phases:
        return steps
    few = [
        min(step, max(1, size // phase)) for step, size, phase in zip(steps, sizes, call.phases, strict=True)
    ]
    return tuple(map(_prime_to, few, call.phases))


def _prime_to(step: int, phase: int) -> int:
    """The next smaller step that has no divisor in common with `phase`."""
    return next(smaller for smaller in range(step, 0, -1) if math.gcd(smaller, phase) == 1)


def grid_steps(sizes: Sequence[int], limit: int | None) -> tuple[int, ...]:
    """Steps along dimensions of these sizes that leave nearly `limit` positions of one image."""
    total, dims = math.prod(sizes), len(sizes)
    if limit is None or total <= limit or dims == 0:
        return (1,) * dims
    steps = [max(1, math.floor(math.pow(total / limit, 1 / dims)))] * dims
    for d in range(dims):
        more = [*steps[:d], steps[d] + 1, *steps[d + 1 :]]
        if _distance(sizes, more, limit) < _distance(sizes, steps, limit):
            steps = more
    return tuple(steps)


def _distance(sizes: Sequence[int], steps: Sequence[int], limit: int) -> float:
    """How far, on a logarithmic scale, the positions that the steps leave are from the limit."""
    return abs(math.log(math.prod(sizes) / math.prod(steps) / limit))


def input_columns(call: LayerCall, grid: Grid) -> Tensor:
    """Input patches, shape (groups, n, columns) with n = in-channels per group x kernel size."""
    return raw_columns(call, grid)[:, natural_order(call)]


def raw_columns(call: LayerCall, grid: Grid) -> Tensor:
    """`input_columns` in the order that is cheap to make: for a convolution, kernel taps before channels.

    Channels stay side by side as in a channels_last image.
    """
    if call.layer.kind.channels_last:
        return _rows(call.input, grid).T.unsqueeze(0)
    patches, per_group = _patches(call, grid), call.weight.shape[1]
    if call.groups == 1:
        # Whatever is not all of the image is copied, lest a few columns hold the whole of it in memory.
        return patches.contiguous().view(1, -1, call.taps * per_group).mT
    by_group = patches.reshape(-1, call.taps, call.groups, per_group).permute(2, 0, 1, 3)
    return by_group.reshape(call.groups, -1, call.taps * per_group).mT


def _patches(call: LayerCall, grid: Grid) -> Tensor:
    """What the kernel sees at every position of the grid, (batch, *positions, *kernel, channels): a view."""
    padded = F.pad(call.input, [p for pair in reversed(call.pads()) for p in pair])
    kernel = call.weight.shape[2:]
    starts = [_starts(call, grid, d, padded.shape[2 + d]) for d in range(len(kernel))]
    counts = [len(range(s.start, s.stop, s.step)) for s in starts]
    image, channel, *along = padded.stride()
    over_grid = [stride * s.step for stride, s in zip(along, starts, strict=True)]
    over_kernel = [stride * dilation for stride, dilation in zip(along, call.dilation, strict=True)]
    first = padded.storage_offset() + sum(stride * s.start for stride, s in zip(along, starts, strict=True))
    size = (len(padded), *counts, *kernel, padded.shape[1])
    return padded.as_strided(size, (image, *over_grid, *over_kernel, channel), first)


def natural_order(call: LayerCall) -> Tensor:
    """Where each column of the flattened weight stands among the raw ones, (n,)."""
    if call.layer.kind.channels_last:
        return torch.arange(call.input.shape[-1], device=call.input.device)
    taps, channels = call.taps, call.weight.shape[1]
    raw = torch.arange(taps * channels, device=call.input.device)
    return raw.view(taps, channels).T.reshape(-1)


def to_raw(call: LayerCall, weight: Tensor) -> Tensor:
    """A weight of the call's layer as a matrix over raw columns, (groups, out per group, n)."""
    taps_last = weight.reshape(call.groups, -1, call.weight.shape[1], call.taps)
    return taps_last.mT.reshape(*taps_last.shape[:2], -1)


def from_raw(call: LayerCall, weight: Tensor) -> Tensor:
    """`to_raw` undone: (groups, out per group, n) over columns in the order of the flattened weight."""
    taps_first = weight.reshape(*weight.shape[:2], call.taps, call.weight.shape[1])
    return taps_first.mT.reshape(weight.shape)


def output_columns(call: LayerCall, output: Tensor, grid: Grid) -> Tensor:
    """Outputs of the call at the same positions, shape (out, columns)."""
    if call.layer.kind.channels_last:
        return _rows(output, grid).T
    index = [grid.index(d, size) for d, size in enumerate(output.shape[2:])]
    return output[(slice(None), slice(None), *index)].movedim(1, -1).flatten(0, -2).T


def positions(call: LayerCall, output: Tensor) -> tuple[int, ...]:
    """Output positions of one image along each dimension they spread over."""
    if call.layer.kind.channels_last:
        return (math.prod(output.shape[1:-1]),)
    return tuple(output.shape[2:])


def _rows(x: Tensor, grid: Grid) -> Tensor:
    rows = x.reshape(x.shape[0], -1, x.shape[-1])
    return rows[:, grid.index(0, rows.shape[1])].reshape(-1, x.shape[-1])


def _starts(call: LayerCall, grid: Grid, d: int, size: int) -> slice:
    """First input index of every chosen patch along spatial dimension d."""
    reach = call.dilation[d] * (call.weight.shape[2 + d] - 1) + 1
    count = (size - reach) // call.stride[d] + 1
    chosen = grid.index(d, count)
    stride = call.stride[d]
    return slice(chosen.start * stride, (count - 1) * stride + 1, chosen.step * stride)
