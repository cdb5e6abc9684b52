"""Weights that best restore a layer's output from the columns that are left.

With `G` the (centred) second moment of all columns, `S` the kept ones and `W` the dense weight, the
best weight is `W_S = W G[:, S] (G[S, S] + damping I)^-1`; centring is the same as fitting a bias too.
Damping pulls towards the weight the layer had, so keeping everything changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.calibration.moments import Moments
from autoprune.linear_algebra import Factored


@dataclass(frozen=True)
class Solution:
    """New weight (groups, out per group, n) of one layer and the constant (groups, out) to add, if any.

    `relative_error` is the unexplained share of the target's power, 0 best; `damping` was added to
    the diagonal, in units of the second moment. Both are scalars.
    """

    weight: Tensor
    shift: Tensor | None
    relative_error: Tensor
    damping: Tensor


def restore(weight: Tensor, moments: Moments, columns: Tensor, centred: bool, damping: float) -> Solution:
    """Best weight on the kept `columns` (m,) for the dense inputs that `moments` describes.

    weight: (groups, out, n) float64, the dense one. Independent of all other layers.
    """
    full = moments.covariance(centred)
    system = Factored.of(full[:, columns][:, :, columns], damping)
    wanted = weight @ full[:, :, columns] + system.damping * weight[:, :, columns]
    solved = system.solve(wanted.mT).mT
    delta = -weight.clone()
    delta[:, :, columns] += solved
    shift = -(delta @ moments.mean).squeeze(-1) if centred else None
    lost, power = ((delta @ full) * delta).sum(), ((weight @ full) * weight).sum()
    return Solution(solved, shift, _share(lost, power), system.damping)


def refit(prior: Tensor, moments: Moments, centred: bool, damping: float) -> Solution:
    """Best weight for the inputs and targets in `moments`, pulled towards `prior` (groups, out, n)."""
    return solution_of(prior, moments, Factored.of(moments.covariance(centred), damping), centred)


def solution_of(prior: Tensor, moments: Moments, system: Factored, centred: bool) -> Solution:
    """`refit` with the damped second moment of the inputs already factored."""
    cross = moments.cross_covariance(centred)
    weight = system.solve(cross + system.damping * prior.mT).mT
    shift = moments.target_mean - (weight @ moments.mean).squeeze(-1) if centred else None
    # tr(E yy^T) - 2 tr(W E uy^T) + tr(W E uu^T W^T) needs no second look at the data.
    lost = moments.target_power(centred) - 2 * (weight.mT * cross).sum()
    lost = lost + ((weight @ moments.covariance(centred)) * weight).sum()
    power = moments.target_power(centred)
    return Solution(weight, shift, _share(lost, power), system.damping)


def _share(lost: Tensor, power: Tensor) -> Tensor:
    """`lost / power`, and 0 where there is no power; without waiting for the device."""
    return torch.where(power > 0, lost / power, 0.0)
