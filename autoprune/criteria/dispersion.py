"""Kernel Dispersion of SFP (Li et al., Information Sciences 689, 2025, 121418), in one reading."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from autoprune.criteria.filter_gram import is_dead


def kernel_dispersion(filters: Tensor) -> float:
    """How far a group's filters (width, n) point apart: `1 - |mean(u)|^2` over unit filters `u`, in [0, 1].

    0 when all point the same way, so that most are redundant; near 1 when their directions cancel. A higher
    dispersion calls for a lower pruning rate. Invariant to the scale of every filter. Filters of zeros have
    no direction and are left out; 0 when nothing else is there. A reading: the paper's formula is not known.
    """
    units = normalize(filters[~is_dead(filters)].double(), dim=1)
    if len(units) == 0:
        return 0.0
    return min(1.0, max(0.0, 1.0 - float(units.mean(0).square().sum())))
