"""Weights that best restore a layer's output from the columns that are left.

With `G` the (centred) second moment of all columns, `S` the kept ones and `W` the dense weight, the
best weight is `W_S = W G[:, S] (G[S, S] + damping I)^-1`; centring is the same as fitting a bias too.
Damping pulls towards the weight the layer had, so keeping everything changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoprune.calibration.moments import Moments
from autoprune.linear_algebra import damped, solve


@dataclass(frozen=True)
class Solution:
    """New weight (groups, out per group, n) of one layer and the constant (groups, out) to add, if any.

    `relative_error` is the unexplained share of the target's power, 0 best; `damping` is the amount
    added to the diagonal, in units of the second moment.
    """

    weight: Tensor
    shift: Tensor | None
    relative_error: float
    damping: float


def restore(weight: Tensor, moments: Moments, columns: Tensor, centred: bool, damping: float) -> Solution:
    """Best weight on the kept `columns` (m,) for the dense inputs that `moments` describes.

    weight: (groups, out, n) float64, the dense one. Independent of all other layers.
    """
    full = moments.covariance(centred)
    matrix, amount = damped(full[:, columns][:, :, columns], damping)
    wanted = weight @ full[:, :, columns] + amount * weight[:, :, columns]
    solved = solve(matrix, wanted.mT).mT
    delta = -weight.clone()
    delta[:, :, columns] += solved
    shift = -(delta @ moments.mean).squeeze(-1) if centred else None
    lost, power = ((delta @ full) * delta).sum(), ((weight @ full) * weight).sum()
    return Solution(solved, shift, float(lost / power) if power > 0 else 0.0, amount)


def refit(prior: Tensor, moments: Moments, centred: bool, damping: float) -> Solution:
    """Best weight for the inputs and targets in `moments`, pulled towards `prior` (groups, out, n)."""
    matrix, amount = damped(moments.covariance(centred), damping)
    cross = moments.cross_covariance(centred)
    solved = solve(matrix, cross + amount * prior.mT).mT
    shift = moments.target_mean - (solved @ moments.mean).squeeze(-1) if centred else None
    # tr(E yy^T) - 2 tr(W E uy^T) + tr(W E uu^T W^T) needs no second look at the data.
    lost = moments.target_power(centred) - 2 * (solved.mT * cross).sum()
    lost = lost + ((solved @ moments.covariance(centred)) * solved).sum()
    power = moments.target_power(centred)
    return Solution(solved, shift, float(lost / power) if power > 0 else 0.0, amount)
