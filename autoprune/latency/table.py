"""The table: measured times of every layer at a grid of its two widths, and what they say of a candidate.

A network's latency is nearly the sum of its layers' times, and a layer's time depends on the rows and the
columns of its weight, so on two groups. Between the grid's points the time is interpolated; kernels that
work on blocks of channels take as long for 57 as for 64, so the same sum is also taken at widths rounded up.
How far each counts, and what norms, additions and calls cost, is fitted to whole networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoprune.latency.design import LEVELS
from autoprune.latency.fitting import nonnegative, relative_error
from autoprune.latency.shapes import LayerShapes

BLOCKS = (1, 8, 16, 32, 64)
TERMS = 5
"""A constant, layers at their widths, layers at widths rounded up, what is between, layers not timed."""
TAIL = 3
"""What follows a layer: a constant, per row of the layer, per column of the one that follows."""
MOST_MARGIN = 0.25


@dataclass(frozen=True)
class Table:
    """Knots (layers, LEVELS), rising, and milliseconds (layers, LEVELS, LEVELS); 0 for a layer not timed.

    `tails` (layers, TAIL) are milliseconds of what stands between a layer and the next. `coefficients`
    (TERMS,) turn all of it into a network's milliseconds. `error` is the relative error of that on the
    networks it was fitted to (root mean square), `spread` the median distance of the quartiles of single
    calls, relative to their median.
    """

    rows: np.ndarray
    columns: np.ndarray
    ms: np.ndarray
    tails: np.ndarray
    coefficients: np.ndarray
    block: int
    error: float
    spread: float

    @property
    def margin(self) -> float:
        """How far above its prediction a measurement may well lie, as a share of it."""
        return min(MOST_MARGIN, float(np.hypot(self.error, self.spread)))


class LatencyModel:
    """Latencies of candidates from the number of channels kept in each group, in the graph's group order."""

    def __init__(self, shapes: LayerShapes, table: Table) -> None:
        self.shapes, self.table = shapes, table

    def predict(self, counts: np.ndarray) -> np.ndarray:
        """Milliseconds of candidates (n, groups), (n,)."""
        counts = np.asarray(counts)
        return np.asarray(
            terms(self.shapes, self.table, counts, self.table.block) @ self.table.coefficients
        )

    def safe(self, counts: np.ndarray) -> np.ndarray:
        """Milliseconds that a measurement of the candidates should not exceed, (n,)."""
        return self.predict(counts) * (1.0 + self.table.margin)


def fit(
    shapes: LayerShapes,
    counts: np.ndarray,
    whole: np.ndarray,
    layers: Sequence[Mapping[str, float]],
    tails: Sequence[Mapping[str, float]],
    spread: float,
) -> Table:
    """From candidates (n, groups): milliseconds of each whole network (n,), of its layers, and after them."""
    rows, columns = shapes.at(counts)
    own, after, following = _times(shapes, layers), _times(shapes, tails), _following(columns)
    places = range(len(shapes.layers))
    grids = [_grid(rows[:, place], columns[:, place], own[:, place]) for place in places]
    tail = [_tail(rows[:, place], following[:, place], after[:, place]) for place in places]
    knots, between, ms = (np.stack(part) for part in zip(*grids, strict=True))
    raw = Table(knots, between, ms, np.stack(tail), np.zeros(TERMS), 1, 0.0, spread)
    return min((_calibrated(shapes, raw, counts, whole, block) for block in BLOCKS), key=lambda t: t.error)


def _calibrated(
    shapes: LayerShapes, raw: Table, counts: np.ndarray, whole: np.ndarray, block: int
) -> Table:
    features = terms(shapes, raw, counts, block)
    found = nonnegative(features, whole)
    error = relative_error(features @ found, whole)
    return replace(raw, coefficients=found, block=block, error=error)


def terms(shapes: LayerShapes, table: Table, counts: np.ndarray, block: int) -> np.ndarray:
    """What a network's latency is made up of, for candidates (n, groups), (n, TERMS)."""
    rows, columns = shapes.at(counts)
    timed = table.ms.any(axis=(1, 2))
    padded = [shapes.padded(sizes, dim, block) for dim, sizes in enumerate((rows, columns))]
    between = np.stack([np.ones_like(rows), rows, _following(columns)], axis=2)
    macs = rows * columns @ (shapes.inner * shapes.positions * ~timed)
    dense = float(shapes.sizes.prod(axis=1) @ (shapes.inner * shapes.positions))
    parts = [
        np.ones(len(rows)),
        _interpolated(table, rows, columns),
        _interpolated(table, *padded),
        np.einsum("nlt,lt->n", between, table.tails),
        macs / max(dense, 1.0),
    ]
    return np.stack(parts, axis=1)


def _times(shapes: LayerShapes, found: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Milliseconds (n, layers), 0 for a layer that was not seen in all networks."""
    known = [all(layer.name in one for one in found) for layer in shapes.layers]
    pairs = list(zip(shapes.layers, known, strict=True))
    return np.array([[one[layer.name] if seen else 0.0 for layer, seen in pairs] for one in found])


def _following(columns: np.ndarray) -> np.ndarray:
    """Columns (n, layers) of the layer that comes next; none after the last."""
    return np.concatenate([columns[:, 1:], np.zeros((len(columns), 1))], axis=1)


def _tail(rows: np.ndarray, following: np.ndarray, ms: np.ndarray) -> np.ndarray:
    features = np.stack([np.ones(len(rows)), rows, following], axis=1)
    return nonnegative(features, np.maximum(ms, 1e-6)) if ms.any() else np.zeros(TAIL)


def _grid(rows: np.ndarray, columns: np.ndarray, ms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Knots and times of one layer from its samples (n,) each; cells without a sample follow the others."""
    knots = [_knots(rows), _knots(columns)]
    cells = np.stack(np.meshgrid(*knots, indexing="ij"), axis=-1).reshape(-1, 2)
    if not ms.any():
        return knots[0], knots[1], np.zeros((LEVELS, LEVELS))
    surface = nonnegative(_surface(rows, columns, rows.max(), columns.max()), np.maximum(ms, 1e-6))
    smooth = _surface(cells[:, 0], cells[:, 1], rows.max(), columns.max()) @ surface
    here = [(rows == r) & (columns == c) for r, c in cells]
    found = [float(ms[h].mean()) if h.any() else s for h, s in zip(here, smooth, strict=True)]
    return knots[0], knots[1], np.array(found).reshape(LEVELS, LEVELS)


def _knots(sizes: np.ndarray) -> np.ndarray:
    """LEVELS rising sizes from the least to the greatest: those seen most, where they are that few."""
    values, seen = np.unique(sizes, return_counts=True)
    common = values[seen >= LEVELS]
    ends = {float(values[0]), float(values[-1])}
    chosen = sorted({*common.tolist(), *ends})
    if len(chosen) > LEVELS or (len(chosen) < LEVELS and len(values) > 2 * LEVELS and not len(common)):
        chosen = np.linspace(values[0], values[-1], LEVELS).tolist()
    # Knots beyond the last one are never reached.
    return np.array([*chosen, *(chosen[-1] + step for step in range(1, LEVELS - len(chosen) + 1))])


def _surface(rows: np.ndarray, columns: np.ndarray, most_rows: float, most_columns: float) -> np.ndarray:
    r, c = rows / most_rows, columns / most_columns
    return np.stack([np.ones(len(r)), r, c, r * c], axis=1)


def _interpolated(table: Table, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Summed times of all layers at these sizes (n, layers), (n,): linear in both, per layer."""
    layer = np.arange(rows.shape[1])
    i, u = _within(table.rows, rows)
    j, v = _within(table.columns, columns)
    ms = table.ms
    low = (1 - v) * ms[layer, i, j] + v * ms[layer, i, j + 1]
    high = (1 - v) * ms[layer, i + 1, j] + v * ms[layer, i + 1, j + 1]
    return np.asarray(((1 - u) * low + u * high).sum(axis=1))


def _within(knots: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval of each size (n, layers) between its layer's knots, and the place in it, 0 to 1."""
    index = (sizes[:, :, None] >= knots[None, :, 1:-1]).sum(axis=2)
    layer = np.arange(len(knots))
    low, high = knots[layer, index], knots[layer, index + 1]
    return index, np.clip((sizes - low) / (high - low), 0.0, 1.0)
