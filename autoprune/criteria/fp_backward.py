"""FP-Backward: backward elimination of the filters that the others explain best (Purohit et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoprune.criteria.base import Criterion, GroupView, criteria
from autoprune.criteria.filter_gram import DAMPING, Damping, eliminate, gram, residual_curve
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
        matrix = gram(view.filters)
        return eliminate(matrix, self.damping, batch, Explained(matrix, self.damping)).cpu()

    def loss(self, view: GroupView, order: Tensor) -> Tensor:
        return residual_curve(gram(view.filters), order)


class Explained:
    """Sum of squared residuals of all filters, `fit` (n, width) being their coefficients."""

    def __init__(self, matrix: Tensor, damping: float) -> None:
        regular, _ = damped(matrix, damping)
        self.fit = inverse(regular) @ matrix

    def costs(self, inverted: Tensor) -> Tensor:
        return removal_costs(inverted, self.fit)

    def remove(self, gone: Tensor, kept: Tensor, replaced: Tensor) -> None:
        self.fit = self.fit[kept] + replaced @ self.fit[gone]


def removal_costs(inverted: Tensor, fit: Tensor) -> Tensor:
    """`u_k`: how much the summed squared residual grows when filter k goes, (n,), in the Gram matrix's units.

    `inverted` (n, n) is the inverse Gram matrix of what is left; `fit` (n, width) the coefficients with
    which these filters explain each filter of the layer. Lower is better.
    """
    return fit.square().sum(1) / inverted.diagonal()
