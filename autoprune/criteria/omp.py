"""FP-OMP: orthogonal matching pursuit with every filter as a target.

Purohit et al., AIMLSystems 2022; Tropp et al., Signal Processing 2006 (simultaneous OMP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from autoprune.criteria.base import Criterion, GroupView, criteria
from autoprune.criteria.filter_gram import gram, residual_curve, smallest


@criteria.register("omp")
@dataclass(frozen=True, kw_only=True)
class OMP(Criterion):
    """Keeps the filters that explain all others best, chosen one by one by orthogonal matching pursuit.

    Each step takes `argmax_i sum_j |<r_j, f_i / |f_i|>|` over the residuals `r_j` of all filters, then
    refits all of them; channels go in the reverse order of selection. So one run serves all widths, and
    the batch removal size changes nothing. Filters whose residual power is below `tolerance` of their
    own power are explained: they go first, by rising norm. Invariant to a common scale, not to the scale
    of single filters.
    """

    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-10

    citation = "Purohit et al., AIMLSystems 2022 (FP-OMP)"

    def order(self, view: GroupView, batch: int) -> Tensor:
        return selection(gram(view.filters), self.tolerance).flip(0).cpu()

    def loss(self, view: GroupView, order: Tensor) -> Tensor:
        return residual_curve(gram(view.filters), order)


def selection(matrix: Tensor, tolerance: float, aims: int = 0) -> Tensor:
    """All channels in order of selection, (width,) int64, from the Gram matrix of the filters (width, width).

    With all filters as targets the residuals' products `<f_i, r_j>` are the Schur complement of what is
    selected, so each step is one rank-one update: Cholesky's method with the pursuit's choice of pivot.
    Where `aims` > 0, that many last rows of `matrix` are the targets, and only the others are selected.
    """
    width = len(matrix) - aims
    power = matrix.diagonal()[:width].clone()
    residual = matrix.clone()
    selected: list[int] = []
    for _ in range(width):
        own = residual.diagonal()[:width]
        matched = residual[:width, width if aims else 0 :].abs().sum(1) / power.sqrt()
        scores = torch.where(own > tolerance * power, matched, 0.0)
        # From the end: of equal channels, the one with the lowest index is to be removed first.
        best = width - 1 - int(smallest(-scores.flip(0), 1))
        if not scores[best] > 0:
            break
        selected.append(best)
        column = residual[best].clone()
        residual.addr_(column, column, alpha=-1.0 / float(column[best]))
        residual[best], residual[:, best] = 0, 0
    return torch.cat(
        [torch.tensor(selected, dtype=torch.int64, device=matrix.device), _rest(selected, power)]
    )


def _rest(selected: list[int], power: Tensor) -> Tensor:
    """The channels that are explained already, by falling norm."""
    left = torch.ones(len(power), dtype=torch.bool, device=power.device)
    left[selected] = False
    explained = left.nonzero().squeeze(1)
    return explained[smallest(power[explained], len(explained))].flip(0)
