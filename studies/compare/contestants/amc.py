"""AMC's environment (He et al., ECCV 2018) with a random agent in place of the DDPG one.

Group after group the agent says what share stays; the environment bounds it, so that the budget can still
be met if all that follow take the least (the paper's algorithm 1). Channels go by the L1 norm of the
reading kernels, readers are refitted by least squares on the dense network's inputs, and the
reward is the accuracy on validation images. The best of all episodes is kept.
"""

from __future__ import annotations

import numpy as np

from autoprune.graph import CostModel
from contestants.magnitude import reader_orders, widest
from contestants.ring import Choice, Contestant, LeftOut, Ring

LEAST_SHARE = 0.2
"""The lowest action; the paper's largest sparsity of a layer is 0.8."""


def choose(ring: Ring) -> Choice:
    orders, cost = reader_orders(ring), ring.session.engine.cost
    dense = np.array([ring.graph.widths[name] for name in cost.names])
    random = np.random.default_rng(ring.settings.seed)
    best, reward = None, -1.0
    for _ in range(ring.settings.episodes):
        actions = random.uniform(LEAST_SHARE, 1.0, len(dense))
        widths = dict(zip(cost.names, bounded(cost, dense, actions, ring.limit).tolist(), strict=True))
        kept = widest(orders, widths)
        found = ring.accuracy(ring.quick.restored(kept))
        if found > reward:
            best, reward = kept, found
    assert best is not None
    return Choice(ring.sliced(best), best)


def bounded(cost: CostModel, dense: np.ndarray, actions: np.ndarray, limit: int) -> np.ndarray:
    """Widths (groups,) of one episode; `actions` are shares that stay, lowered where the budget demands."""
    counts = np.maximum(1, np.ceil(LEAST_SHARE * dense - 1e-9)).astype(int)
    if cost.evaluate(counts[None]).macs[0] > limit:
        raise LeftOut(f"with {LEAST_SHARE:.0%} of all channels the budget is not met")
    for group, action in enumerate(actions):
        options = np.arange(counts[group], max(counts[group], round(action * dense[group])) + 1)
        rows = np.repeat(counts[None], len(options), axis=0)
        rows[:, group] = options
        counts[group] = options[cost.evaluate(rows).macs <= limit].max()
    return counts


CONTESTANTS = [Contestant("AMC's environment, random agent", choose, ("independent", "sequential"))]
