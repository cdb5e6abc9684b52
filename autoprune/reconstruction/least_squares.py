"""Weights that best restore a layer's output from the columns that are left.

With `G` the (centred) second moment of all columns, `S` the kept ones and `W` the dense weight, the
best weight is `W_S = W G[:, S] (G[S, S] + damping I)^-1`; centring is the same as fitting a bias too.
Damping pulls towards the weight the layer had, so keeping everything changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoprune.calibration.moments import Moments
from autoprune.linear_algebra import Factored


@dataclass(frozen=True)
class Solution:
    """New weight (groups, out per group, n) of one layer and the constant (groups, out) to add, if any.

    `damping` (groups, 1, 1) was added to the diagonals, in units of the second moment.
    """

    weight: Tensor
    shift: Tensor | None
    damping: Tensor


def restore(weight: Tensor, moments: Moments, columns: Tensor, centred: bool, damping: float) -> Solution:
    """Best weight on the kept `columns` (m,) for the dense inputs that `moments` describes.

    weight: (groups, out, n) float64, the dense one. Independent of all other layers.
    """
    read = moments.covariance(centred, columns)
    system = Factored.of(read[:, :, columns], damping)
    solved = system.solve(read @ weight.mT + system.damping * weight[:, :, columns].mT).mT
    if not centred:
        return Solution(solved, None, system.damping)
    mean = moments.mean
    change = weight @ mean - solved @ mean[:, columns]
    return Solution(solved, change.squeeze(-1), system.damping)


def refit(prior: Tensor, moments: Moments, centred: bool, damping: float) -> Solution:
    """Best weight for the inputs and targets in `moments`, pulled towards `prior` (groups, out, n)."""
    return solution_of(prior, moments, Factored.of(moments.covariance(centred), damping), centred)


def solution_of(prior: Tensor, moments: Moments, system: Factored, centred: bool) -> Solution:
    """`refit` with the damped second moment of the inputs already factored."""
    cross = moments.cross_covariance(centred)
    weight = system.solve(cross + system.damping * prior.mT).mT
    shift = moments.target_mean - (weight @ moments.mean).squeeze(-1) if centred else None
    return Solution(weight, shift, system.damping)
