"""Which candidates to time, so that every layer is seen at every pair of its levels of width.

An orthogonal array (Bose, Sankhya 3, 1938): with a prime number of levels q, run (i, j) gives colour k the
level (i + k j) mod q; any two colours then meet in all q^2 pairs of levels within q^2 runs. Groups that meet
in a layer have different colours. So one network after the other times all layers at once, in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVELS = 5
EXTRA = 11
"""Candidates at widths between the levels: they tell how the device rounds widths up."""
ALIGNED = ((64, 16), (32, 8))
"""Groups of at least so many channels have levels at multiples of so many: kernels work on such blocks."""


def candidates(options: Sequence[np.ndarray], together: np.ndarray, seed: int = 0) -> np.ndarray:
    """Candidates to time (n, groups), each group at allowed widths; the dense network is the first.

    `together` (groups, groups): which groups meet in a layer.
    """
    colours = coloured(together)
    levels = [widths_of(option) for option in options]
    runs = [
        [level[place] for level, place in zip(levels, _places(i, j, colours), strict=True)]
        for i in range(LEVELS)
        for j in range(LEVELS)
    ]
    dense = [option[-1] for option in options]
    return np.array([dense, *runs, *between(options, seed)])


def coloured(together: np.ndarray) -> np.ndarray:
    """Colours 0 to LEVELS, such that groups that meet differ, (groups,); where there are too few, nearly."""
    colours = np.full(len(together), -1)
    for group in range(len(together)):
        used = np.bincount(colours[together[group] & (colours >= 0)], minlength=LEVELS + 1)
        colours[group] = int(np.argmin(used))
    return colours


def widths_of(option: np.ndarray) -> np.ndarray:
    """The levels of a group, (LEVELS,), rising from its floor to dense, at multiples of a block inside."""
    dense = int(option[-1])
    block = next((size for least, size in ALIGNED if dense >= least), 1)
    wanted = np.linspace(option[0], dense, LEVELS)
    wanted[1:-1] = np.clip(np.round(wanted[1:-1] / block) * block, option[0], dense)
    return np.array([option[np.argmin(np.abs(option - width))] for width in wanted])


def between(options: Sequence[np.ndarray], seed: int) -> list[list[int]]:
    """EXTRA candidates from narrow to wide, every group somewhere near the same share."""
    rng = np.random.default_rng([seed, 1])
    found = []
    for share in np.linspace(0.05, 0.95, EXTRA):
        places = np.clip(share + rng.uniform(-0.25, 0.25, len(options)), 0.0, 1.0)
        found.append([int(o[round(p * (len(o) - 1))]) for o, p in zip(options, places, strict=True)])
    return found


def _places(i: int, j: int, colours: np.ndarray) -> np.ndarray:
    """Level of every group in run (i, j), (groups,)."""
    return np.where(colours < LEVELS, (i + colours * j) % LEVELS, j)
