"""Sums that do not depend on the order of their terms."""

from __future__ import annotations

import numpy as np

_WHOLE, _REST = 2.0**20, 2.0**40


class ExactSum:
    """A growing sum of arrays (*shape) in units of 2^-60: whole numbers add up to the same in any order.

    Where a sum of floats is rounded depends on what came first, and trials come as workers finish them. Terms
    are to be below 8e6, and no more than a million.
    """

    def __init__(self, *shape: int) -> None:
        self._whole, self._rest = np.zeros(shape, np.int64), np.zeros(shape, np.int64)

    def add(self, terms: np.ndarray) -> None:
        """Add all of the terms (n, *shape)."""
        scaled = terms * _WHOLE
        whole = np.floor(scaled)
        self._whole += whole.astype(np.int64).sum(axis=0)
        self._rest += np.rint((scaled - whole) * _REST).astype(np.int64).sum(axis=0)

    @property
    def value(self) -> np.ndarray:
        """The sum, (*shape)."""
        return np.asarray((self._whole + self._rest / _REST) / _WHOLE)
