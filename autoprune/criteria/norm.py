"""Weights-only norms: the filters with the smallest norm go first (Li et al., ICLR 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.criteria.base import Criterion, GroupView, criteria


def _by_norm(view: GroupView, p: float) -> Tensor:
    norms = torch.linalg.vector_norm(view.filters.double(), ord=p, dim=1)
    return torch.argsort(norms, stable=True).cpu()


@criteria.register("l1")
class L1Norm(Criterion):
    """Smallest L1 norm of the filter first. All at once: the batch removal size changes nothing."""

    citation = "Li et al., ICLR 2017"

    def order(self, view: GroupView, batch: int) -> Tensor:
        return _by_norm(view, 1)


@criteria.register("l2")
class L2Norm(Criterion):
    """Smallest L2 norm of the filter first. All at once: the batch removal size changes nothing."""

    citation = "Li et al., ICLR 2017"

    def order(self, view: GroupView, batch: int) -> Tensor:
        return _by_norm(view, 2)
