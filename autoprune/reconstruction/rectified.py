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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autoprune.calibration.flow import Clamp
from autoprune.calibration.moments import Moments
from autoprune.linear_algebra import Factored, rounded_products
from autoprune.reconstruction.least_squares import Solution

OVER_RELAXATION = 1.5
"""Rounds after the first go further than the quadratic says, which lies above the loss; stable below 2."""


def missed_(aim: Tensor, clamp: Clamp, fitted: Tensor) -> Tensor:
    """How far the fitted values, which are overwritten, are from `aim`, of the same shape, with sign.

    `aim` is clamped: where it stands at a bound, anything beyond that is as good, and nothing is missed. It
    has the precision that it was clamped in, or it would be beside the bound.
    """
    left = torch.sub(aim, fitted, out=fitted)
    most = None if clamp.low == -math.inf else _unbounded(torch.gt, aim, clamp.low, left.dtype)
    least = None if clamp.high == math.inf else _unbounded(torch.lt, aim, clamp.high, left.dtype).neg_()
    return left if most is least is None else left.clamp_(least, most)


def _unbounded(compare: Callable[..., Tensor], values: Tensor, bound: float, dtype: torch.dtype) -> Tensor:
    """The largest number where the comparison holds, 0 elsewhere: a product, many times faster than a choice
    between two numbers."""
    holds = compare(values, bound, out=torch.empty_like(values, dtype=dtype))
    return holds.mul_(torch.finfo(dtype).max)


@dataclass(frozen=True)
class Sample:
    """Columns on which the fit is judged: inputs (groups, n, columns) and what the clamp should make of the
    outputs, `aim` (groups, out, columns).

    `other`, of the aim's shape, is added to the normalised output of the layer, None for nothing.
    """

    inputs: Tensor
    aim: Tensor
    other: Tensor | None

    @classmethod
    def of(cls, inputs: Tensor, dense: Tensor, other: Tensor | None, clamp: Clamp) -> Sample:
        """`dense` (groups, out, columns) are the dense network's values in front of the clamp."""
        return cls(inputs, dense.clamp(clamp.low, clamp.high), other)

    def to(self, dtype: torch.dtype) -> Sample:
        other = None if self.other is None else self.other.to(dtype)
        return Sample(self.inputs.to(dtype), self.aim, other)


@dataclass(frozen=True)
class Behind:
    """What lies between the layer and its clamp: per channel `scale * y + shift`, both (groups, out, 1)."""

    clamp: Clamp
    scale: Tensor
    shift: Tensor


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
    problem = _Problem.of(prior, moments.mean, system, samples, behind)
    solution = start
    for number in range(rounds):
        solution = problem.round(solution, 1.0 if number == 0 else OVER_RELAXATION)
    return solution


@dataclass(frozen=True)
class _Problem:
    """What all rounds share. Products over samples are in the samples' precision, float32 at least."""

    pull: Tensor
    """The damping's pull towards the prior weight, (groups, out, n)."""
    mean: Tensor
    system: Factored
    behind: Behind
    samples: Sequence[Sample]
    to_output: Tensor
    """From sums over all samples behind the layer to means in units of its output, (groups, out, 1)."""

    @classmethod
    def of(
        cls, prior: Tensor, mean: Tensor, system: Factored, samples: Sequence[Sample], behind: Behind
    ) -> _Problem:
        count = sum(sample.inputs.shape[-1] for sample in samples)
        return cls(system.damping * prior, mean, system, behind, samples, 1.0 / (behind.scale * count))

    def round(self, now: Solution, step: float) -> Solution:
        """`W + step D` and its constant, where D is what the quadratic above the loss says.

        With the residue r of the fit, D solves `D (C + d) = E[r u^T] - E[r] E[u]^T - d (W - W0)`: C is the
        covariance of u, d the damping, W0 the prior. The constant moves by `E[r] - D E[u]`. Without a
        constant the means count as zero.
        """
        cross, mean = self._residue(now)
        if now.shift is not None:
            cross = torch.baddbmm(cross, mean, self.mean.mT, alpha=-1)
        right = (cross + self.pull).addcmul_(now.weight, self.system.damping, value=-1)
        change = self.system.solve(right.mT).mT
        weight = now.weight.add(change, alpha=step)
        if now.shift is None:
            return replace(now, weight=weight)
        moved = torch.baddbmm(mean, change, self.mean, alpha=-1).squeeze(-1)
        return replace(now, weight=weight, shift=now.shift.add(moved, alpha=step))

    def _residue(self, now: Solution) -> tuple[Tensor, Tensor]:
        """E[r u^T] (groups, out, n) and E[r] (groups, out, 1) of the residue r, in units of the layer."""
        # Sums over columns overflow in half precision.
        behind, dtype = self.behind, torch.promote_types(self.samples[0].inputs.dtype, torch.float32)
        weight = (behind.scale * now.weight).to(dtype)
        constant = behind.shift
        if now.shift is not None:
            constant = torch.addcmul(constant, behind.scale, now.shift.unsqueeze(-1))
        constant = constant.to(dtype)
        cross, total = _sums(self.samples[0].to(dtype), weight, constant, behind.clamp)
        for sample in self.samples[1:]:
            more = _sums(sample.to(dtype), weight, constant, behind.clamp)
            cross, total = cross.add_(more[0]), total.add_(more[1])
        return cross * self.to_output, total * self.to_output


def _sums(sample: Sample, weight: Tensor, constant: Tensor, clamp: Clamp) -> tuple[Tensor, Tensor]:
    """Sums of r u^T and r over one sample, in float64."""
    inputs, other = sample.inputs, sample.other
    with rounded_products(inputs.device):
        fitted = torch.baddbmm(constant if other is None else torch.add(other, constant), weight, inputs)
        left = missed_(sample.aim, clamp, fitted)
        return torch.bmm(left, inputs.mT).double(), left.sum(-1, keepdim=True).double()
