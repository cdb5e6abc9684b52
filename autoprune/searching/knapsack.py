"""Multiple-choice knapsack: one option per group, least total loss within a capacity, exactly.

Dynamic programming over a grid of capacities; one table answers every capacity up to its own. The only
inexactness is the grid: an option's cost is rounded up to the next of `bins` steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 2000


@dataclass(frozen=True)
class Table:
    """Solved knapsack: `choice[g, b]` is group g's option when the groups up to g share b bins."""

    choice: np.ndarray
    weights: tuple[np.ndarray, ...]
    unit: float

    def options(self, capacity: float) -> np.ndarray | None:
        """Index of each group's option at the capacity, (groups,); None when nothing fits."""
        left = min(int(capacity / self.unit + 1e-9), self.choice.shape[1] - 1)
        picks = np.zeros(len(self.weights), dtype=np.int64)
        for group in reversed(range(len(self.weights))):
            if left < 0 or self.choice[group, left] < 0:
                return None
            picks[group] = self.choice[group, left]
            left -= self.weights[group][picks[group]]
        return picks


def solve(
    losses: Sequence[np.ndarray], costs: Sequence[np.ndarray], capacity: float, bins: int = BINS
) -> Table:
    """Fill the table for all capacities up to `capacity`.

    losses[g], costs[g]: loss (lower is better) and cost (>= 0) of each option of group g.
    """
    unit = max(capacity, 1e-12) / bins
    weights = tuple(np.ceil(cost / unit - 1e-9).astype(np.int64) for cost in costs)
    best = np.zeros(bins + 1)
    choice = np.full((len(losses), bins + 1), -1, dtype=np.int32)
    for group, (loss, weight) in enumerate(zip(losses, weights, strict=True)):
        best, choice[group] = _add_group(best, loss, weight)
    return Table(choice, weights, unit)


def _add_group(best: np.ndarray, loss: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    after = np.full_like(best, np.inf)
    picked = np.full(len(best), -1, dtype=np.int32)
    for option in np.flatnonzero(weight < len(best)):
        w = weight[option]
        candidate = best[: len(best) - w] + loss[option]
        better = candidate < after[w:]
        after[w:][better] = candidate[better]
        picked[w:][better] = option
    return after, picked
