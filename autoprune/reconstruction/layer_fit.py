"""One layer's least squares, collected chunk by chunk: moments, and samples where a clamp follows."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from autoprune.calibration.accumulate import column_parts, grouped
from autoprune.calibration.call import LayerCall
from autoprune.calibration.columns import Grid, from_raw, to_raw
from autoprune.calibration.flow import Affine, Clamp
from autoprune.calibration.moments import Moments
from autoprune.calibration.statistics import centred
from autoprune.linear_algebra import Factored, for_images
from autoprune.reconstruction.least_squares import Solution, solution_of
from autoprune.reconstruction.rectified import Behind, Sample, rectified
from autoprune.tensors import without_autocast

SAMPLE_BYTES = 2 * 2**30
"""Input columns of one layer that are kept for the rounds behind a clamp; what comes later only counts in
the plain fit."""


class LayerFit:
    """Fits the layer of `call`. `affine` is the batch norm behind it, `clamp` what cuts it off, if any.

    Columns stay in the order in which they are cheap to make (`raw_columns`) until the end.
    """

    def __init__(self, call: LayerCall, affine: Affine | None, clamp: Clamp | None) -> None:
        self.call, self.clamp = call, clamp
        self._moments: Moments | None = None
        self._samples: list[Sample] = []
        self._bytes = 0
        # Per channel: what the batch norm does, (out, 1), and whether its output says anything, (out,).
        self._scale: Tensor | None = None
        self._shift: Tensor | None = None
        self._usable: Tensor | None = None
        if affine is not None:
            # A channel that the batch norm switches off says nothing about the layer's output.
            size = affine.scale.abs()
            self._usable = size > 1e-6 * size.max()
            self._scale = torch.where(self._usable, affine.scale, 1.0).unsqueeze(-1)
            self._shift = affine.shift.unsqueeze(-1)

    @without_autocast
    def add(self, call: LayerCall, grid: Grid, dense: Tensor, other: Tensor | None) -> None:
        """Take in one chunk's call.

        `dense` (out, columns) is the wanted output of the layer, or, where `other` (out, columns) is added
        to the normalised output, the wanted sum.
        """
        own = dense if other is None else self._before_norm(torch.sub(dense, other))
        seen = None if self.clamp is None else self._behind_norm(dense) if other is None else dense
        start = 0
        for inputs in column_parts(call, grid):
            stop = start + inputs.shape[-1]
            self._count(Moments.of(inputs, grouped(own[:, start:stop], call.groups)))
            if self.clamp is not None and seen is not None and self._bytes < SAMPLE_BYTES:
                beside = None if other is None else grouped(other[:, start:stop], call.groups)
                wanted = grouped(seen[:, start:stop], call.groups)
                self._samples.append(Sample.of(inputs, wanted, beside, self.clamp))
                self._bytes += inputs.numel() * inputs.element_size()
            start = stop

    @without_autocast
    def solve(self, damping: float, images: int, rounds: int) -> Solution:
        """The layer's weight (groups, out per group, n) and the whole constant behind it."""
        moments, is_centred = self._moments, centred(self.call.layer)
        assert moments is not None, "a chunk has been added"
        covariance = moments.covariance(is_centred)
        system = Factored.of(covariance, for_images(damping, covariance.shape[-1], images))
        prior = to_raw(self.call, self.call.weight.double())
        solution = solution_of(prior, moments, system, is_centred)
        if self._samples:
            solution = rectified(solution, prior, moments, system, self._samples, self._behind(), rounds)
        solution = self._where_usable(solution, prior)
        return replace(solution, weight=from_raw(self.call, solution.weight))

    def _count(self, moments: Moments) -> None:
        if self._moments is None:
            self._moments = moments
        else:
            self._moments.add(moments)

    def _before_norm(self, values: Tensor) -> Tensor:
        if self._scale is None or self._shift is None:
            return values
        return torch.sub(values, self._shift).div_(self._scale)

    def _behind_norm(self, values: Tensor) -> Tensor:
        if self._scale is None or self._shift is None:
            return values
        return torch.addcmul(self._shift, self._scale, values)

    def _behind(self) -> Behind:
        assert self.clamp is not None, "samples are kept for a clamp alone"
        groups, channels = self.call.groups, (self.call.weight.shape[0], 1)
        if self._scale is None or self._shift is None:
            ones = self.call.weight.new_ones(channels, dtype=torch.float64)
            return Behind(self.clamp, grouped(ones, groups), grouped(torch.zeros_like(ones), groups))
        scale, shift = self._scale.double(), self._shift.double()
        return Behind(self.clamp, grouped(scale, groups), grouped(shift, groups))

    def _where_usable(self, solution: Solution, prior: Tensor) -> Solution:
        if self._usable is None:
            return solution
        usable = self._usable.reshape(self.call.groups, -1)
        weight = torch.where(usable.unsqueeze(-1), solution.weight, prior)
        if solution.shift is None:
            return replace(solution, weight=weight)
        bias = 0.0 if self.call.bias is None else self.call.bias.double().reshape(usable.shape)
        return replace(solution, weight=weight, shift=torch.where(usable, solution.shift, bias))
