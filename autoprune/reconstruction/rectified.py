"""Least squares for layers behind which a clamp such as ReLU cuts values off.

Where the dense value lies below ReLU's zero, every fitted value below zero is as good as any other: to
match the dense value there spends capacity on what nobody reads. What counts is, for each output v of the
dense network and each fitted f,

    (v - f)^2 where v passes the clamp, (max(f, low) - low)^2 where it was cut off at `low` (`high` alike).

This is convex, lies above the squared error behind the clamp, and the plain quadratic lies above it. So a
few rounds of least squares with unchanged second moments bring it down: each aims at v where v passes, and
elsewhere at the fitted value, clamped. The idea of fitting behind the non-linearity is that of Zhang, Zou,
He and Sun, TPAMI 2016 (arXiv 1505.06798), who relax it with auxiliary variables; the rounds are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autoprune.calibration.flow import Clamp
from autoprune.calibration.moments import Moments
from autoprune.linear_algebra import Factored
from autoprune.reconstruction.least_squares import Solution

OVER_RELAXATION = 1.5
"""Rounds after the first go further than the quadratic says, which lies above the loss; stable below 2."""


@dataclass(frozen=True)
class Sample:
    """Columns on which the fit is judged: inputs (groups, n, columns), dense values (groups, out, columns).

    `dense` stands before the clamp, and so does `other` (same shape): what is added to the normalised
    output of the layer, None for nothing.
    """

    inputs: Tensor
    dense: Tensor
    other: Tensor | None

    def to(self, dtype: torch.dtype) -> Sample:
        other = None if self.other is None else self.other.to(dtype)
        return Sample(self.inputs.to(dtype), self.dense.to(dtype), other)


@dataclass(frozen=True)
class Behind:
    """What lies between the layer and its clamp: per channel `scale * y + shift`, both (groups, out, 1)."""

    clamp: Clamp
    scale: Tensor
    shift: Tensor


def residue(dense: Tensor, fitted: Tensor, clamp: Clamp) -> Tensor:
    """How far the fitted values are from what they should be, with sign; 0 where the clamp hides it."""
    left = torch.where(dense > clamp.low, dense - fitted, (clamp.low - fitted).clamp_(max=0))
    if clamp.high == math.inf:
        return left
    return torch.where(dense < clamp.high, left, (clamp.high - fitted).clamp_(min=0))


def rectified(
    start: Solution,
    prior: Tensor,
    moments: Moments,
    system: Factored,
    samples: Sequence[Sample],
    behind: Behind,
    rounds: int,
) -> Solution:
    """`start` after `rounds` rounds; weights stay pulled towards `prior` as `system.damping` says.

    `system` is the damped (centred, where `start` has a shift) second moment of the inputs.
    """
    solution = start
    for number in range(rounds):
        step = 1.0 if number == 0 else OVER_RELAXATION
        solution = _round(solution, prior, moments, system, samples, behind, step)
    return solution


def _round(
    now: Solution,
    prior: Tensor,
    moments: Moments,
    system: Factored,
    samples: Sequence[Sample],
    behind: Behind,
    step: float,
) -> Solution:
    cross, mean = _pull(now, samples, behind)
    if now.shift is not None:
        cross = cross - mean @ moments.mean.mT
    change = step * system.solve((cross + system.damping * (prior - now.weight)).mT).mT
    if now.shift is None:
        return replace(now, weight=now.weight + change)
    shift = now.shift + step * mean.squeeze(-1) - (change @ moments.mean).squeeze(-1)
    return replace(now, weight=now.weight + change, shift=shift)


def _pull(now: Solution, samples: Sequence[Sample], behind: Behind) -> tuple[Tensor, Tensor]:
    """E[r u^T] (groups, out, n) and E[r] (groups, out, 1) of the residue r in units of the layer's output."""
    # Sums over columns overflow in half precision.
    dtype = torch.promote_types(samples[0].inputs.dtype, torch.float32)
    weight = (behind.scale * now.weight).to(dtype)
    constant = behind.shift if now.shift is None else behind.shift + behind.scale * now.shift.unsqueeze(-1)
    cross, total, count = torch.zeros_like(now.weight), torch.zeros_like(behind.shift), 0
    for sample in (sample.to(dtype) for sample in samples):
        given = constant.to(dtype) if sample.other is None else sample.other + constant.to(dtype)
        left = residue(sample.dense, torch.baddbmm(given, weight, sample.inputs), behind.clamp)
        cross += torch.bmm(left, sample.inputs.mT)
        total += left.sum(-1, keepdim=True)
        count += left.shape[-1]
    return cross / behind.scale / count, total / behind.scale / count
