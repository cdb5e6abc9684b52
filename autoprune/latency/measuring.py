"""The table, measured: one sliced network after the other, in several rounds, so that what disturbs the
machine for a while does not hit one width alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import nn

from autoprune.graph.groups import ChannelGraph, Kept
from autoprune.latency.design import candidates
from autoprune.latency.shapes import LayerShapes
from autoprune.latency.table import Table, fit
from autoprune.latency.timing import Latency, Sample, Timing

ROUNDS = 3


def measure_table(
    graph: ChannelGraph,
    options: Sequence[np.ndarray],
    timing: Timing,
    sliced: Callable[[Kept], nn.Module],
    *,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> Table:
    """Time candidates made of `options`, the allowed widths of each group; `sliced` makes their networks.

    Which channels a candidate keeps does not matter for its time: the first ones.
    """
    shapes = LayerShapes(graph)
    counts = candidates(options, shapes.together(), seed)
    samples: list[list[Sample]] = [[] for _ in counts]
    rng = np.random.default_rng([seed, 2])
    for _ in range(ROUNDS):
        for place in rng.permutation(len(counts)):
            network = sliced(first_channels(graph, counts[place]))
            samples[place].append(timing.sample(network, shapes.weights))
            if progress is not None:
                progress()
    whole = [_fastest(Latency.of(sample.whole) for sample in rounds) for rounds in samples]
    layers, tails = ([_parts(r, kind) for r in samples] for kind in ("layers", "tails"))
    spread = statistics.median(latency.spread_ms / latency.ms for latency in whole)
    return fit(shapes, counts, np.array([latency.ms for latency in whole]), layers, tails, spread)


def _fastest(rounds: Iterable[Latency]) -> Latency:
    """Other load only ever adds time, and lasts: the median of the round that it left alone most."""
    return min(rounds, key=lambda latency: latency.ms)


def _parts(rounds: Sequence[Sample], kind: str) -> dict[str, float]:
    """Milliseconds by layer, likewise."""
    parts: list[dict[str, list[float]]] = [getattr(one, kind) for one in rounds]
    return {name: min(statistics.median(part[name]) for part in parts) for name in parts[0]}


def first_channels(graph: ChannelGraph, counts: np.ndarray) -> Kept:
    """The candidate of these widths (groups,) that keeps the first channels of every group."""
    kept = graph.all_kept()
    pairs = zip(graph.groups, counts, strict=True)
    return {group.name: kept[group.name][: int(count)] for group, count in pairs}


def steps(options: Sequence[np.ndarray], graph: ChannelGraph) -> int:
    """How often `measure_table` reports progress."""
    return ROUNDS * len(candidates(options, LayerShapes(graph).together()))
