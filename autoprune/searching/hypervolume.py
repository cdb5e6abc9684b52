"""Hypervolume of accuracy over cost: one number for how good a front is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def hypervolume(
    points: Sequence[tuple[float, float]], *, accuracy: float = 0.0, cost: float = 1.0
) -> float:
    """Area that points (accuracy, cost) dominate, up to the reference point (`accuracy`, `cost`).

    Accuracy is better when higher, cost when lower; points beyond the reference count nothing.
    """
    inside = sorted((c, a) for a, c in points if a > accuracy and c < cost)
    area, best = 0.0, accuracy
    for place, (c, a) in enumerate(inside):
        best = max(best, a)
        until = inside[place + 1][0] if place + 1 < len(inside) else cost
        area += (best - accuracy) * (until - c)
    return area


def history(
    points: Sequence[tuple[float, float]], *, accuracy: float = 0.0, cost: float = 1.0
) -> np.ndarray:
    """Hypervolume after each of the points in order, (points,); never falls."""
    best: list[tuple[float, float]] = []
    volumes: list[float] = []
    for a, c in points:
        # Most points are beaten by one before them, and change nothing.
        if not volumes or not any(other >= a and less <= c for other, less in best):
            best = [(other, less) for other, less in best if other > a or less < c] + [(a, c)]
            volumes.append(hypervolume(best, accuracy=accuracy, cost=cost))
        else:
            volumes.append(volumes[-1])
    return np.array(volumes)
