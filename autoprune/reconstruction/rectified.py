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
from autoprune.linear_algebra import Factored, rounded_products
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


@dataclass(frozen=True)
class Behind:
    """What lies between the layer and its clamp: per channel `scale * y + shift`, both (groups, out, 1)."""

    clamp: Clamp
    scale: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Goal:
    """What fitted values should be: `aim`, where a bound does not hide them (the same shape, or None)."""

    aim: Tensor
    low: Tensor | None
    high: Tensor | None

    @classmethod
    def of(cls, dense: Tensor, clamp: Clamp) -> Goal:
        """The dense values where they pass the clamp; where one is cut off, anything beyond its bound."""
        low = None if clamp.low == -math.inf else torch.where(dense > clamp.low, -math.inf, clamp.low)
        high = None if clamp.high == math.inf else torch.where(dense < clamp.high, math.inf, clamp.high)
        return cls(dense.clamp(clamp.low, clamp.high), _like(low, dense), _like(high, dense))

    def missed(self, fitted: Tensor) -> Tensor:
        """How far the fitted values are from what they should be, with sign; 0 where the clamp hides it."""
        hidden = self.low is not None or self.high is not None
        return self.aim - (fitted.clamp(self.low, self.high) if hidden else fitted)


def _like(bound: Tensor | None, values: Tensor) -> Tensor | None:
    return None if bound is None else bound.to(values.dtype)


def residue(dense: Tensor, fitted: Tensor, clamp: Clamp) -> Tensor:
    """How far the fitted values are from what they should be, with sign; 0 where the clamp hides it."""
    return Goal.of(dense, clamp).missed(fitted)


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
    pieces: Sequence[tuple[Tensor, Tensor | None, Goal]]
    """Inputs, what is added behind, and the goal of each sample."""
    to_output: Tensor
    """From sums over all samples behind the layer to means in units of its output, (groups, out, 1)."""

    @classmethod
    def of(
        cls, prior: Tensor, mean: Tensor, system: Factored, samples: Sequence[Sample], behind: Behind
    ) -> _Problem:
        # Sums over columns overflow in half precision.
        dtype = torch.promote_types(samples[0].inputs.dtype, torch.float32)
        pieces = []
        for sample in samples:
            other = None if sample.other is None else sample.other.to(dtype)
            pieces.append((sample.inputs.to(dtype), other, Goal.of(sample.dense.to(dtype), behind.clamp)))
        count = sum(sample.dense.shape[-1] for sample in samples)
        return cls(system.damping * prior, mean, system, behind, pieces, 1.0 / (behind.scale * count))

    def round(self, now: Solution, step: float) -> Solution:
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
        behind, dtype = self.behind, self.pieces[0][0].dtype
        weight = (behind.scale * now.weight).to(dtype)
        constant = behind.shift
        if now.shift is not None:
            constant = torch.addcmul(constant, behind.scale, now.shift.unsqueeze(-1))
        constant = constant.to(dtype)
        sums = [self._sums(piece, weight, constant) for piece in self.pieces]
        cross, total = (sum(parts[1:], parts[0]) for parts in zip(*sums, strict=True))
        return cross * self.to_output, total * self.to_output

    @staticmethod
    def _sums(
        piece: tuple[Tensor, Tensor | None, Goal], weight: Tensor, constant: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sums of r u^T and r over one sample, in float64."""
        inputs, other, goal = piece
        with rounded_products(inputs.device):
            fitted = torch.baddbmm(constant if other is None else other + constant, weight, inputs)
            left = goal.missed(fitted)
            return torch.bmm(left, inputs.mT).double(), left.sum(-1, keepdim=True).double()
