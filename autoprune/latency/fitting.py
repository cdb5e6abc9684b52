"""Least squares without negative coefficients, for times: what costs nothing costs zero, never less."""

from __future__ import annotations

from itertools import combinations

import numpy as np


def nonnegative(features: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Coefficients >= 0 (features,) of least relative squared error; `features` (n, few), `target` (n,) > 0.

    By trying every subset: there are never more than a handful of features.
    """
    rows = features / target[:, None]
    count, ones = features.shape[1], np.ones(len(target))
    best, least = np.zeros(count), float(len(target))
    for size in range(1, count + 1):
        for chosen in map(list, combinations(range(count), size)):
            found, *_ = np.linalg.lstsq(rows[:, chosen], ones, rcond=None)
            error = float(np.square(rows[:, chosen] @ found - 1.0).sum())
            if (found >= 0).all() and error < least - 1e-12:
                best, least = np.zeros(count), error
                best[chosen] = found
    return best


def relative_error(predicted: np.ndarray, target: np.ndarray) -> float:
    """Root mean square of the relative errors."""
    return float(np.sqrt(np.mean(np.square(predicted / target - 1.0))))
