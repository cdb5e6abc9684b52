"""Uniform L1: one rate for all groups, the smallest filters go. The control that everyone must beat."""

from __future__ import annotations

import numpy as np

from autoprune.searching.strategies.uniform import scaled_rates
from contestants.magnitude import producer_orders, widest
from contestants.ring import Choice, Contestant, LeftOut, Ring


def choose(ring: Ring) -> Choice:
    space = ring.session.engine.space.within({"macs": ring.limit})
    counts = scaled_rates(space, np.ones(len(space.names)), 1.0)
    if counts is None:
        raise LeftOut("no uniform rate is within the budget")
    kept = widest(producer_orders(ring), space.widths(counts))
    return Choice(ring.sliced(kept), kept)


# "independent" here is in essence GRAIL (Tang et al., CPAL 2026) with magnitude as its selector: ridge
# regression on second moments of the dense network, uniform rates, no search.
CONTESTANTS = [
    Contestant("uniform L1", choose, ("none", "batch norm", "independent", "sequential")),
]
