"""LRF: linearly replaceable filters (Joo et al., AAAI 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.criteria.base import Criterion, GroupView, criteria
from autoprune.criteria.filter_gram import DAMPING, Damping, eliminate, gram, is_dead, residual_curve


@criteria.register("lrf")
@dataclass(frozen=True, kw_only=True)
class LRF(Criterion):
    """Removes, `batch` at a time, the filters that the others replace best, weighed by the next kernels.

    With `M` the inverse Gram matrix of the filters left, filter i is replaced with the coefficients
    `-M_il / M_ii` up to a residual of norm `1 / sqrt(M_ii)`; the score is that times the norm of its
    kernels in the next layer, which take over `g_l += lambda_il g_i` after each removal. Readings: the
    kernels of several consumers are stacked; of a batch, all coefficients are refitted together. `damping`
    is relative to the filters' mean power. Invariant to a common scale, not to the scale of single filters;
    a scale of a filter that its kernels take back changes nothing.
    """

    damping: Damping = DAMPING

    citation = "Joo et al., AAAI 2021 (linearly replaceable filters)"

    def order(self, view: GroupView, batch: int) -> Tensor:
        objective = NextKernels(consumer_gram(view))
        return eliminate(gram(view.filters), self.damping, batch, objective).cpu()

    def loss(self, view: GroupView, order: Tensor) -> Tensor:
        """The residuals are weighed by the squared norms of the dense network's next kernels."""
        return residual_curve(gram(view.filters), order, consumer_gram(view).diagonal())


def consumer_gram(view: GroupView) -> Tensor:
    """Products of the next layers' kernels, summed over consumers, (width, width) float64.

    Those that read a filter of zeros count as zeros: damping alone would give it a residual.
    """
    alive = ~is_dead(view.filters)
    return torch.stack([gram(kernels * alive[:, None]) for kernels in view.consumers()]).sum(0)


class NextKernels:
    """Residual of each filter times the norm of its next kernels; `kernels` (n, n) are their products."""

    def __init__(self, kernels: Tensor) -> None:
        self.kernels = kernels

    def costs(self, inverted: Tensor) -> Tensor:
        return scores(inverted, self.kernels)

    def remove(self, gone: Tensor, kept: Tensor, replaced: Tensor) -> None:
        self.kernels = _compensated(self.kernels, gone, kept, replaced)


def scores(inverted: Tensor, kernels: Tensor) -> Tensor:
    """Norm of each filter's residual times the norm of its next kernels, (n,); lower goes first."""
    # A difference of large numbers may fall below zero by rounding.
    return (kernels.diagonal().clamp_min(0.0) / inverted.diagonal()).sqrt()


def _compensated(kernels: Tensor, gone: Tensor, kept: Tensor, replaced: Tensor) -> Tensor:
    """The Gram matrix of `g_K + lambda g_C`, from that of all kernels."""
    mixed = replaced @ kernels[gone][:, kept]
    own = replaced @ kernels[gone][:, gone] @ replaced.mT
    return kernels[kept][:, kept] + mixed + mixed.mT + own
