"""AIMET's channel pruning with greedy selection of ratios, as its user guide describes it (sections "Channel
Pruning" and "Greedy Compression Ratio Selection" of the 1.x guides); the package has since dropped it.

Each group is pruned alone to 0.1, 0.2, ... 0.9 of its channels, smallest kernels of the reading layers first,
the readers refitted by least squares (He et al., ICCV 2017), and judged on validation images. Scores are
made monotone; a binary search finds the highest common score at which every group can take its fewest
channels and the budget holds. AIMET prunes the inputs of a layer; here the unit is autoprune's channel group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sklearn.isotonic import IsotonicRegression

from contestants.magnitude import Orders, reader_orders, widest
from contestants.ring import Choice, Contestant, LeftOut, Ring

RATIOS = tuple(ratio / 10 for ratio in range(1, 10))

Widths = dict[str, int]
Table = Mapping[str, Sequence[tuple[int, float]]]
"""Group name -> (channels kept, score), fewest first; higher scores are better."""


def choose(ring: Ring) -> Choice:
    orders = reader_orders(ring)
    table: Table = ring.once("aimet", lambda: sensitivity(ring, orders))
    cost = ring.session.engine.cost
    widths = within(table, ring.graph.widths, lambda found: cost.macs(found) <= ring.limit)
    kept = widest(orders, widths)
    return Choice(ring.sliced(kept), kept)


def sensitivity(ring: Ring, orders: Orders) -> Table:
    table = {}
    for name, width in ring.graph.widths.items():
        counts = sorted({max(1, round(ratio * width)) for ratio in RATIOS} - {width})
        networks = ((count, widest(orders, {name: count})) for count in counts)
        table[name] = [(count, ring.accuracy(ring.quick.restored(kept))) for count, kept in networks]
    return {name: monotone(scores) for name, scores in table.items()}


def monotone(scores: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The nearest scores that never fall with the number of channels."""
    if not scores:
        return []
    counts, values = (np.array(column, dtype=float) for column in zip(*scores, strict=True))
    fitted = IsotonicRegression().fit_transform(counts, values)
    return [(int(count), float(value)) for count, value in zip(counts, fitted, strict=True)]


def within(table: Table, dense: Widths, fits: Callable[[Widths], bool]) -> Widths:
    """Widths at the highest threshold that fits; LeftOut where none does."""
    thresholds = sorted({score for scores in table.values() for _, score in scores})
    low, high = 0, len(thresholds)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(at(table, dense, thresholds[middle])) else (low, middle)
    if low == 0:
        raise LeftOut("no common score brings the groups within the budget")
    return at(table, dense, thresholds[low - 1])


def at(table: Table, dense: Widths, threshold: float) -> Widths:
    """The fewest channels of each group with at least this score; all where there are none."""
    return {
        name: next((count for count, score in scores if score >= threshold), dense[name])
        for name, scores in table.items()
    }


CONTESTANTS = [Contestant("AIMET's procedure", choose, ("independent", "sequential"))]
