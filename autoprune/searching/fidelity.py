"""How far the proxies can be trusted: their rank correlation with the measured accuracy at equal MACs.

Across budgets any proxy looks good, for cost alone orders the trials. So trials are compared only with those
of nearly the same MACs, and the correlations of these classes are pooled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

SPAN = 0.02
"""Trials of one class differ by at most this share of the dense MACs."""
LEAST = 5
"""A class of fewer trials says nothing."""
_MOST = 1.0 - 1e-6


class Judged(Protocol):
    """A measured trial, with what the rungs below the measurement said of it."""

    @property
    def macs_ratio(self) -> float: ...

    @property
    def accuracy(self) -> float: ...

    @property
    def proxies(self) -> Mapping[str, float]: ...


T = TypeVar("T", bound=Judged)


@dataclass(frozen=True)
class Fidelity:
    """Spearman's rank correlation, 1 best, with its 95 % interval, over so many trials."""

    correlation: float
    low: float
    high: float
    trials: int


def fidelities(points: Sequence[Judged]) -> dict[str, Fidelity]:
    """The fidelity of every proxy that enough trials of nearly equal MACs have, by name."""
    names = dict.fromkeys(name for point in points for name in point.proxies)
    found = {name: _of([p for p in points if name in p.proxies], name) for name in names}
    return {name: fidelity for name, fidelity in found.items() if fidelity is not None}


def pooled(classes: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Fidelity | None:
    """Of classes of (proxy, accuracy), proxies better when lower; None where no class can be ranked.

    Fisher's transformation of each correlation, weighted by its precision. The variance of Spearman's is
    1.06 / (n - 3): Fieller, Hartley and Pearson, Biometrika 44, 1957.
    """
    known = [(x, y) for x, y in classes if len(x) > 3 and _varies(x) and _varies(y)]
    usable = [(-spearman(x, y), len(x)) for x, y in known]
    weight = sum(count - 3 for _, count in usable)
    if not usable:
        return None
    centre = sum((n - 3) * math.atanh(max(-_MOST, min(_MOST, r))) for r, n in usable) / weight
    reach = 1.96 * math.sqrt(1.06 / weight)
    low, middle, high = (math.tanh(z) for z in (centre - reach, centre, centre + reach))
    return Fidelity(middle, low, high, sum(count for _, count in usable))


def _of(points: Sequence[Judged], name: str) -> Fidelity | None:
    classes = [
        ([point.proxies[name] for point in part], [point.accuracy for point in part])
        for part in _classes(points)
    ]
    return pooled(classes)


def _classes(points: Sequence[T]) -> list[list[T]]:
    """Trials of nearly equal MACs; each class begins at the cheapest that is left."""
    classes: list[list[T]] = []
    for point in sorted(points, key=lambda p: p.macs_ratio):
        if classes and point.macs_ratio - classes[-1][0].macs_ratio <= SPAN:
            classes[-1].append(point)
        else:
            classes.append([point])
    return [members for members in classes if len(members) >= LEAST]


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation; SciPy's takes a second to import."""
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 0, of equal values their mean; NaN, a broken network's error, ranks last."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[place])


def _varies(values: Sequence[float]) -> bool:
    return len(np.unique(values)) > 1
