"""A layer call as a plain linear map: inputs and outputs as matrices with one column per position.

A convolution is `y = W u` at every output position, with `u` the input patch. On large images most
positions say the same, so a regular grid with a moving offset stands for all of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from autoprune.calibration.taps import LayerCall
from autoprune.graph.groups import LayerKind


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

    Channels stay side by side as in a channels_last image, so that every tap is one plain copy.
    """
    if call.layer.kind is LayerKind.LINEAR:
        return _rows(call.input, grid).T.unsqueeze(0)
    kernel = call.weight.shape[2:]
    padded = F.pad(call.input, [p for pair in reversed(call.pads()) for p in pair])
    batch, channels = padded.shape[:2]
    starts = [_starts(call, grid, d, padded.shape[2 + d]) for d in range(len(kernel))]
    counts = [len(range(s.start, s.stop, s.step)) for s in starts]
    out = padded.new_empty(batch, *counts, math.prod(kernel), channels)
    for k, taps in enumerate(itertools.product(*(range(size) for size in kernel))):
        shifts = [tap * dilation for tap, dilation in zip(taps, call.dilation, strict=True)]
        index = [slice(s.start + t, s.stop + t, s.step) for s, t in zip(starts, shifts, strict=True)]
        out[..., k, :] = padded[(slice(None), slice(None), *index)].movedim(1, -1)
    per_group = channels // call.groups
    grouped = out.view(-1, math.prod(kernel), call.groups, per_group).permute(2, 0, 1, 3)
    return grouped.reshape(call.groups, -1, math.prod(kernel) * per_group).mT


def natural_order(call: LayerCall) -> Tensor:
    """Where each column of the flattened weight stands among the raw ones, (n,)."""
    if call.layer.kind is LayerKind.LINEAR:
        return torch.arange(call.input.shape[-1], device=call.input.device)
    taps, channels = call.weight[0, 0].numel(), call.weight.shape[1]
    raw = torch.arange(taps * channels, device=call.input.device)
    return raw.view(taps, channels).T.reshape(-1)


def output_columns(call: LayerCall, output: Tensor, grid: Grid) -> Tensor:
    """Outputs of the call at the same positions, shape (out, columns)."""
    if call.layer.kind is LayerKind.LINEAR:
        return _rows(output, grid).T
    index = [grid.index(d, size) for d, size in enumerate(output.shape[2:])]
    return output[(slice(None), slice(None), *index)].movedim(1, -1).flatten(0, -2).T


def positions(call: LayerCall, output: Tensor) -> tuple[int, ...]:
    """Output positions of one image along each dimension they spread over."""
    if call.layer.kind is LayerKind.LINEAR:
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
