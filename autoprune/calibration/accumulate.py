"""Moments of a layer's calls, a few images at a time so that the matrix of patches stays small."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from autoprune.calibration.call import LayerCall
from autoprune.calibration.columns import Grid, natural_order, raw_columns
from autoprune.calibration.moments import Moments
from autoprune.memory import Limit
from autoprune.tensors import without_autocast

PATCHES = Limit(cpu=32_000_000, gpu=1_024_000_000, parts=70)
"""Bytes of the largest matrix of patches that is made at once, in float32: small ones leave a GPU idle."""


class Collected:
    """Moments of one layer's calls, in the order of its flattened weight.

    Columns wait until there are as many as they have rows: the product of few costs less than to add up the
    matrices that it makes.
    """

    def __init__(self) -> None:
        self._waiting: list[Tensor] = []
        self._moments: Moments | None = None
        self._order: Tensor | None = None

    @without_autocast
    def add(self, call: LayerCall, grid: Grid) -> None:
        """Take in the call's input patches on the grid."""
        if self._order is None:
            self._order = natural_order(call)
        for columns in column_parts(call, grid):
            count = columns.shape[-1] + sum(part.shape[-1] for part in self._waiting)
            if count < columns.shape[-2]:
                # A copy: the network may go on working on this tensor in place.
                self._waiting.append(columns.clone())
            else:
                self._take([*self._waiting, columns])
                self._waiting = []

    def moments(self) -> Moments:
        """Of all calls so far."""
        if self._waiting:
            self._take(self._waiting)
            self._waiting = []
        assert self._moments is not None and self._order is not None, "there is at least one call"
        return self._moments.reordered(self._order)

    def _take(self, parts: list[Tensor]) -> None:
        moments = Moments.of(parts[0] if len(parts) == 1 else torch.cat(parts, -1))
        if self._moments is None:
            self._moments = moments
        else:
            self._moments.add(moments)


def grouped(target: Tensor, groups: int) -> Tensor:
    """Targets (out, columns) by the group of the convolution that gives them: (groups, out, columns)."""
    return target.reshape(groups, target.shape[0] // groups, target.shape[1])


def column_parts(call: LayerCall, grid: Grid) -> Iterator[Tensor]:
    """The call's `raw_columns`, a few images at a time."""
    return (raw_columns(part, grid) for part in _parts(call, grid))


def _parts(call: LayerCall, grid: Grid) -> Iterator[LayerCall]:
    images = call.input.shape[0]
    if call.layer.kind.channels_last:
        per_image = math.prod(call.input.shape[1:])
    else:
        reused = call.taps / math.prod(grid.steps)
        per_image = int(math.prod(call.input.shape[1:]) * max(reused, 1e-3)) + 1
    limit = PATCHES.bytes(call.input.device) // 4
    step = max(1, limit // max(per_image, 1))
    if step >= images > 0:
        yield call
        return
    for start in range(0, images, step):
        yield replace(call, input=call.input[start : start + step])
