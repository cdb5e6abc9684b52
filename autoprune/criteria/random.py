"""A random order: the control that every criterion must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.criteria.base import Criterion, GroupView, criteria


@criteria.register("random")
class Random(Criterion):
    """A random order, fixed by the study's seed. The batch removal size changes nothing."""

    def order(self, view: GroupView, batch: int) -> Tensor:
        return torch.randperm(view.width, generator=torch.Generator().manual_seed(view.seed))
