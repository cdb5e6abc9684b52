"""Orders of removal from weights alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from autoprune.criteria import criteria, group_view
from autoprune.criteria.views import channel_rows
from autoprune.graph.groups import Role
from contestants.ring import Ring

Orders = Mapping[str, Tensor]
"""Group name -> channels, first removed first, (width,) int64."""


def producer_orders(ring: Ring) -> Orders:
    """autoprune's criterion `l1`: the smallest filters go first (Li et al., ICLR 2017)."""
    criterion, bench = criteria["l1"](), ring.bench
    views = [group_view(bench.model, bench.graph, bench.statistics, group, 0) for group in bench.graph.groups]
    return {view.name: criterion.order(view, 1) for view in views}


def reader_orders(ring: Ring) -> Orders:
    """Input channels whose kernels have the smallest L1 norm go first, summed over the layers that read them.

    AMC chooses so, and AIMET after He et al. (ICCV 2017) without their lasso.
    """
    orders = {}
    for group in ring.graph.groups:
        readers = [channel_rows(ring.model, member) for member in group.of_role(Role.CONSUMER)]
        norms = torch.stack([rows.double().abs().sum(1) for rows in readers]).sum(0)
        orders[group.name] = torch.argsort(norms, stable=True).cpu()
    return orders


def widest(orders: Orders, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """The last `widths` channels of each order, sorted."""
    return {name: orders[name][len(orders[name]) - width :].sort().values for name, width in widths.items()}
