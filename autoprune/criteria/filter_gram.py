"""Algebra on the Gram matrix of a group's filters, which all weights-only eliminations share.

With `G = F F^T` (filters are rows), `M = (G + damping I)^-1` and a set `C` that is removed from the
set `C + K`, the filters of `C` are best replaced by those of `K` with the coefficients
`-M_KC M_CC^-1`, and `M_KK - M_KC M_CC^-1 M_CK` is the inverse without `C` (Schur complement).
"""

from __future__ import annotations

from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import Tensor

from autoprune.linear_algebra import damped, inverse

Damping = Annotated[float, Field(gt=0, le=1)]
"""Share of the filters' mean power that is added to the diagonal of their Gram matrix."""

DAMPING = 1e-6
"""A filter that the others replace but for a thousandth of its norm is as good as replaced."""

_CURVE_DAMPING = 1e-12
_TIE = 1e-8
"""Rounding of scores under that damping: float64 holds 16 digits, the inverse takes 6."""


class Objective(Protocol):
    """What an elimination minimises, for the n filters left."""

    def costs(self, inverted: Tensor) -> Tensor:
        """Cost of removing each filter, (n,), from the inverse Gram matrix (n, n); the least goes first."""

    def remove(self, gone: Tensor, kept: Tensor, replaced: Tensor) -> None:
        """Filters `gone` go; those `kept` replace them with the coefficients `replaced` (kept, gone)."""


def gram(filters: Tensor) -> Tensor:
    """Products of all pairs of filters, (width, width) float64, from (width, n)."""
    rows = filters.double()
    products: Tensor = rows @ rows.mT
    return products


def replacements(inverted: Tensor, gone: Tensor, stays: Tensor) -> Tensor:
    """Coefficients (stays, gone) with which the filters that stay replace those that go.

    `inverted` (n, n) belongs to both together; `gone` and `stays` are disjoint indices into it.
    """
    factor = torch.linalg.cholesky_ex(inverted[gone][:, gone]).L
    solved: Tensor = torch.cholesky_solve(inverted[gone][:, stays], factor)
    return -solved.mT


def inverse_without(inverted: Tensor, gone: Tensor, stays: Tensor, replaced: Tensor) -> Tensor:
    """Inverse of the damped Gram matrix of the filters that stay; `replaced` are their coefficients."""
    return inverted[stays][:, stays] + replaced @ inverted[gone][:, stays]


def eliminate(matrix: Tensor, damping: float, batch: int, objective: Objective) -> Tensor:
    """Channels in order of removal, (width,) int64, from the Gram matrix (width, width); O(n^2) a step.

    The `batch` filters of least cost go; what is left takes their place before the next are judged.
    """
    regular, _ = damped(matrix, damping)
    inverted = inverse(regular)
    alive = torch.arange(len(matrix), device=matrix.device)
    order: list[Tensor] = []
    while len(alive) > 0:
        gone = smallest(objective.costs(inverted), batch)
        order.append(alive[gone])
        stays = torch.ones(len(alive), dtype=torch.bool, device=alive.device)
        stays[gone] = False
        kept = stays.nonzero().squeeze(1)
        replaced = replacements(inverted, gone, kept)
        inverted = inverse_without(inverted, gone, kept, replaced)
        objective.remove(gone, kept, replaced)
        alive = alive[kept]
    return torch.cat(order)


def residual_curve(matrix: Tensor, order: Tensor, weights: Tensor | None = None) -> Tensor:
    """Share of the filters' power that the kept ones cannot replace, (width + 1,) float64 on the CPU.

    `matrix` is the Gram matrix (width, width), `order` lists channels first removed first; entry k is
    `sum_j w_j |f_j - sum_l lambda_jl f_l|^2 / sum_j w_j |f_j|^2` with the last k of the order kept and
    lambda refitted. `weights` (width,) are 1 where not given. Lower is better; never rises with width.
    """
    chosen = order.flip(0).to(matrix.device)
    regular, _ = damped(matrix[chosen][:, chosen], _CURVE_DAMPING)
    factor = torch.linalg.cholesky_ex(regular).L
    # Column c of the factor holds what the channel chosen c-th newly explains in every later one.
    explained = factor.square()
    if weights is not None:
        explained = explained * weights[chosen, None]
    left = explained.sum(0).flip(0).cumsum(0).flip(0)
    left = left / left[0].clamp_min(torch.finfo(left.dtype).tiny)
    return torch.cat([left, left.new_zeros(1)]).cpu()


def smallest(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` smallest scores, the lowest index first where they are equal.

    Scores that differ by less than 1e-8 of the largest may be equal but for rounding.
    """
    scale = scores.abs().max() if len(scores) else scores.sum()
    steps = torch.round(scores / (scale * _TIE)) if scale > 0 else torch.zeros_like(scores)
    return torch.argsort(steps, stable=True)[:count]


def is_dead(filters: Tensor) -> Tensor:
    """Whether all weights of a filter are zero, bool (width,)."""
    return ~filters.bool().any(1)
