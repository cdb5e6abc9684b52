"""Weights-only norms: the filters with the smallest norm go first (Li et al., ICLR 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.criteria.base import Criterion, GroupView, criteria


def _norms(view: GroupView, p: float) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(view.filters.double(), ord=p, dim=1)
    return norms


def share_gone(sizes: Tensor, order: Tensor) -> Tensor:
    """Share of the summed sizes that is gone when the last k of the order stay, (width + 1,) on the CPU."""
    gone = sizes.cpu()[order].cumsum(0)
    curve = torch.cat([gone.new_zeros(1), gone]).flip(0)
    return curve / gone[-1].clamp_min(torch.finfo(gone.dtype).tiny)


@criteria.register("l1")
class L1Norm(Criterion):
    """Smallest L1 norm of the filter first. All at once: the batch removal size changes nothing."""

    citation = "Li et al., ICLR 2017"

    def order(self, view: GroupView, batch: int) -> Tensor:
        return torch.argsort(_norms(view, 1), stable=True).cpu()

    def loss(self, view: GroupView, order: Tensor) -> Tensor:
        """Share of the summed L1 norm that is gone."""
        return share_gone(_norms(view, 1), order)


@criteria.register("l2")
class L2Norm(Criterion):
    """Smallest L2 norm of the filter first. All at once: the batch removal size changes nothing."""

    citation = "Li et al., ICLR 2017"

    def order(self, view: GroupView, batch: int) -> Tensor:
        return torch.argsort(_norms(view, 2), stable=True).cpu()

    def loss(self, view: GroupView, order: Tensor) -> Tensor:
        """Share of the summed squared norm that is gone."""
        return share_gone(_norms(view, 2).square(), order)
