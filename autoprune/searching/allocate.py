"""Widths for a budget: the knapsack on the exact cost model, projection, and filling what is left.

The knapsack needs a cost that adds up over groups. Where two groups share a layer (its rows and its
columns) it does not, so the cost is expanded around the current widths and solved again. The exact cost
model has the last word: `project` takes channels away until every bound holds, `fill` spends the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoprune.searching.knapsack import solve
from autoprune.searching.space import Space

Curves = Sequence[np.ndarray]
"""Per group the loss at every width, (width + 1,), indexed by kept channels; lower is better."""

_ROUNDS = 6


def allocate(space: Space, curves: Curves) -> np.ndarray:
    """Widths (groups,) of least summed loss within the space's bounds; dense when it has none."""
    if not space.bounds:
        return space.dense
    losses = _option_losses(space, curves)
    counts, best, best_loss = _start(space), None, np.inf
    prices = {name: 1.0 for name in space.bounds}
    for _ in range(_ROUNDS):
        found = _knapsack(space, losses, counts, prices)
        proposal = fill(space, curves, project(space, curves, found))
        loss = total_loss(curves, proposal)
        if loss < best_loss:
            best, best_loss = proposal, loss
        if np.array_equal(found, counts) and len(prices) == 1:
            break
        counts = found
        prices = _raise_prices(space, prices, found)
    return project(space, curves, _start(space)) if best is None else best


def total_loss(curves: Curves, counts: np.ndarray) -> float:
    """Summed loss of a candidate."""
    return float(sum(curve[count] for curve, count in zip(curves, counts, strict=True)))


def project(space: Space, curves: Curves, counts: np.ndarray) -> np.ndarray:
    """The nearest candidate within the bounds: channels go where they cost least loss per cost saved.

    The narrowest of all where not even that is within them: `check_reachable` refuses such a budget before.
    """
    if space.excess(counts[None])[0] <= 0:
        return counts
    counts = _shrink(space, counts)
    while space.excess(counts[None])[0] > 0:
        steps = _steps(space, counts, -1)
        if not len(steps.candidates):
            # Costs that are counted fall with every width; a latency that was measured need not.
            return counts
        gains = space.excess(counts[None])[0] - space.excess(steps.candidates)
        worth = steps.losses(curves, counts) / np.maximum(gains, 1e-15)
        counts = steps.candidates[int(np.argmin(np.where(gains > 0, worth, np.inf)))]
    return counts


def fill(space: Space, curves: Curves, counts: np.ndarray) -> np.ndarray:
    """Add channels while one fits, best loss saved per cost first."""
    while True:
        steps = _steps(space, counts, +1)
        if not len(steps.candidates):
            return counts
        fits = space.excess(steps.candidates) <= 0
        if not fits.any():
            return counts
        extra = space.excess(steps.candidates) - space.excess(counts[None])[0]
        worth = -steps.losses(curves, counts) / np.maximum(extra, 1e-15)
        counts = steps.candidates[int(np.argmax(np.where(fits, worth, -np.inf)))]


class _Steps:
    """All candidates that differ from `counts` by one step of one group."""

    def __init__(self, candidates: np.ndarray, groups: np.ndarray) -> None:
        self.candidates, self.groups = candidates, groups

    def losses(self, curves: Curves, counts: np.ndarray) -> np.ndarray:
        """Change of the summed loss, (steps,)."""
        rows = zip(self.groups, self.candidates, strict=True)
        return np.array([curves[g][row[g]] - curves[g][counts[g]] for g, row in rows])


def _steps(space: Space, counts: np.ndarray, direction: int) -> _Steps:
    candidates, groups = [], []
    for g, option in enumerate(space.options):
        place = int(np.searchsorted(option, counts[g])) + direction
        if 0 <= place < len(option):
            row = counts.copy()
            row[g] = option[place]
            candidates.append(row)
            groups.append(g)
    return _Steps(np.array(candidates).reshape(-1, len(counts)), np.array(groups, dtype=np.int64))


def _shrink(space: Space, counts: np.ndarray) -> np.ndarray:
    """Scale all widths down together until just above the bounds, so that few single steps remain."""
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        fits = space.excess(_scaled(space, counts, middle)[None])[0] <= 0
        low, high = (middle, high) if fits else (low, middle)
    return _scaled(space, counts, high)


def _scaled(space: Space, counts: np.ndarray, scale: float) -> np.ndarray:
    rows = zip(space.options, counts, strict=True)
    return np.array([option[max(0, np.searchsorted(option, c * scale, "right") - 1)] for option, c in rows])


def _start(space: Space) -> np.ndarray:
    return space.dense if space.excess(space.dense[None])[0] <= 0 else _shrink(space, space.dense)


def _option_losses(space: Space, curves: Curves) -> list[np.ndarray]:
    return [curve[option] for curve, option in zip(curves, space.options, strict=True)]


def _knapsack(
    space: Space, losses: list[np.ndarray], counts: np.ndarray, prices: dict[str, float]
) -> np.ndarray:
    """Solve with the cost expanded around `counts`; several bounds count by their prices."""
    rows = _one_group_changed(space, counts)
    exact = space.costs(np.concatenate([counts[None], rows]))
    cost = sum(prices[n] * exact[n] / bound for n, bound in space.bounds.items()) / sum(prices.values())
    assert isinstance(cost, np.ndarray)
    here, parts = cost[0], np.split(cost[1:], np.cumsum([len(o) for o in space.options])[:-1])
    least = [part.min() for part in parts]
    capacity = 1.0 - here + sum(here - low for low in least)
    table = solve(losses, [part - low for part, low in zip(parts, least, strict=True)], max(capacity, 0.0))
    picks = table.options(capacity)
    if picks is None:
        return space.floor
    return np.array([option[pick] for option, pick in zip(space.options, picks, strict=True)])


def _one_group_changed(space: Space, counts: np.ndarray) -> np.ndarray:
    rows = np.repeat(counts[None], sum(len(option) for option in space.options), axis=0)
    start = 0
    for g, option in enumerate(space.options):
        rows[start : start + len(option), g] = option
        start += len(option)
    return rows


def _raise_prices(space: Space, prices: dict[str, float], counts: np.ndarray) -> dict[str, float]:
    """Bounds that are exceeded count for more next time, slack ones for less."""
    costs = space.costs(counts[None])
    return {n: price * float(costs[n][0] / space.bounds[n]) ** 4 for n, price in prices.items()}
