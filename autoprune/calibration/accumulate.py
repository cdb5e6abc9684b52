"""Moments of one layer call, a few images at a time so that the matrix of patches stays small."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from autoprune.calibration.call import LayerCall
from autoprune.calibration.columns import Grid, natural_order, raw_columns
from autoprune.calibration.moments import Moments
from autoprune.memory import Limit
from autoprune.tensors import without_autocast

PATCHES = Limit(cpu=32_000_000, gpu=1_024_000_000, parts=70)
"""Bytes of the largest matrix of patches that is made at once, in float32: small ones leave a GPU idle."""


@without_autocast
def call_moments(call: LayerCall, grid: Grid, target: Tensor | None = None) -> Moments:
    """Moments of the call's input patches on the grid; `target` (out, columns) are the wanted outputs."""
    total: Moments | None = None
    start = 0
    for inputs in column_parts(call, grid):
        stop = start + inputs.shape[-1]
        moments = Moments.of(inputs, None if target is None else grouped(target[:, start:stop], call.groups))
        if total is None:
            total = moments
        else:
            total.add(moments)
        start = stop
    assert total is not None, "a layer call has at least one image"
    return total.reordered(natural_order(call))


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
    for start in range(0, images, step):
        yield replace(call, input=call.input[start : start + step])
