"""FP-Backward: backward elimination of the filters that the others explain best (Purohit et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.criteria.base import Criterion, GroupView, criteria
from autoprune.criteria.filter_gram import (
    DAMPING,
    Damping,
    gram,
    inverse_without,
    replacements,
    residual_curve,
    smallest,
)
from autoprune.linear_algebra import damped, inverse


@criteria.register("fp-backward")
@dataclass(frozen=True, kw_only=True)
class FPBackward(Criterion):
    """Removes, `batch` at a time, the filters without which all filters stay best explained.

    Removing filter k raises the summed squared residual of all filters, dropped ones included, by
    `u_k = sum_j |d_k^T b_j|^2 / gamma_k`: `d_k` is a column of the inverse Gram matrix of the filters left,
    `gamma_k` its diagonal entry, `b_j` the products of those filters with filter j. `damping` is relative
    to the filters' mean power. Invariant to a common scale, not to the scale of single filters.
    """

    damping: Damping = DAMPING

    citation = "Purohit et al., AIMLSystems 2022 (FP-Backward)"

    def order(self, view: GroupView, batch: int) -> Tensor:
        return eliminate(gram(view.filters), self.damping, batch).cpu()

    def loss(self, view: GroupView, order: Tensor) -> Tensor:
        return residual_curve(gram(view.filters), order)


def eliminate(matrix: Tensor, damping: float, batch: int) -> Tensor:
    """Channels in order of removal, (width,) int64, from the Gram matrix (width, width); O(n^2) a step."""
    regular, _ = damped(matrix, damping)
    inverted = inverse(regular)
    fit = inverted @ matrix
    alive = torch.arange(len(matrix), device=matrix.device)
    order: list[Tensor] = []
    while len(alive) > 0:
        gone = smallest(removal_costs(inverted, fit), batch)
        order.append(alive[gone])
        stays = torch.ones(len(alive), dtype=torch.bool, device=alive.device)
        stays[gone] = False
        kept = stays.nonzero().squeeze(1)
        replaced = replacements(inverted, gone, kept)
        inverted = inverse_without(inverted, gone, kept, replaced)
        fit = fit[kept] + replaced @ fit[gone]
        alive = alive[kept]
    return torch.cat(order)


def removal_costs(inverted: Tensor, fit: Tensor) -> Tensor:
    """`u_k`: how much the summed squared residual grows when filter k goes, (n,), in the Gram matrix's units.

    `inverted` (n, n) is the inverse Gram matrix of what is left; `fit` (n, width) the coefficients with
    which these filters explain each filter of the layer. Lower is better.
    """
    return fit.square().sum(1) / inverted.diagonal()
