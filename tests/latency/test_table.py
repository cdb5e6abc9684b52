"""Predictions are held against a clock whose milliseconds are a known function of the widths."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.errors import StudyError
from autoprune.graph import ChannelGraph
from autoprune.graph.groups import Kept
from autoprune.graph.slicing import Slicer
from autoprune.latency import Timing
from autoprune.latency.design import EXTRA, LEVELS, candidates, coloured
from autoprune.latency.fitting import nonnegative
from autoprune.latency.measuring import first_channels, measure_table, steps
from autoprune.latency.packing import pack_table, unpack_table
from autoprune.latency.shapes import LayerShapes
from autoprune.latency.table import LatencyModel
from autoprune.searching.space import allowed_widths
from tests.latency.fake import Cost, FakeTiming, smooth, stairs
from tests.small import NETWORKS, graph_of


def options_of(graph: ChannelGraph) -> list[np.ndarray]:
    return [allowed_widths(group.width, 0.05, 1) for group in graph.groups]


def table_of(network: str, timing: Timing) -> tuple[ChannelGraph, Slicer, LatencyModel]:
    small = NETWORKS[network]
    model, graph = small.model(), graph_of(small.model(), small.images(1))
    slicer = Slicer(model, graph)
    network = slicer.build(graph.all_kept())

    def sliced(kept: Kept) -> nn.Module:
        slicer.apply(network, slicer.state(kept), kept)
        return network

    table = measure_table(graph, options_of(graph), timing, sliced)
    return graph, slicer, LatencyModel(LayerShapes(graph), table)


@cache
def measured(
    network: str, cost: Cost = smooth, noise: float = 0.0
) -> tuple[ChannelGraph, Slicer, LatencyModel]:
    return table_of(network, fake(cost=cost, noise=noise))


def some(graph: ChannelGraph, count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.array([[rng.integers(1, group.width + 1) for group in graph.groups] for _ in range(count)])


def fake(**how: object) -> FakeTiming:
    return partial(FakeTiming, NETWORKS["chain"].images(1), 1)(**how)  # type: ignore[arg-type]


@pytest.mark.parametrize("network", ["residual", "chain", "grouped", "concat"])
def test_predictions_are_near_what_is_measured(network: str) -> None:
    timing = fake()
    graph, slicer, model = measured(network)
    counts = some(graph)
    found = [timing.total(slicer.build(first_channels(graph, row))) for row in counts]
    assert model.predict(counts) == pytest.approx(np.array(found), rel=0.1)


def test_noise_widens_the_margin_and_hardly_moves_predictions() -> None:
    graph, _, exact = measured("residual")
    _, _, noisy = measured("residual", noise=0.05)
    counts = some(graph)
    assert noisy.predict(counts) == pytest.approx(exact.predict(counts), rel=0.15)
    assert noisy.table.margin > 0.02 > exact.table.margin
    assert (noisy.safe(counts) > noisy.predict(counts)).all()


def test_blocks_of_channels_are_seen() -> None:
    _, _, model = measured("residual", stairs)
    _, _, plain = measured("residual")
    assert plain.table.error < 1e-6
    assert model.table.error < 0.1


@pytest.mark.parametrize("network", ["residual", "grouped", "concat"])
def test_shapes_are_those_of_the_sliced_network(network: str) -> None:
    small = NETWORKS[network]
    model, graph = small.model(), graph_of(small.model(), small.images(1))
    shapes, counts = LayerShapes(graph), some(graph, 4)
    rows, columns = shapes.at(counts)
    for place, row in enumerate(counts):
        weights = dict(Slicer(model, graph).build(first_channels(graph, row)).named_parameters())
        for at, layer in enumerate(graph.layers):
            assert tuple(weights[layer.weight].shape[:2]) == (rows[place, at], columns[place, at])


def test_groups_that_meet_are_timed_at_all_pairs_of_levels() -> None:
    options = [np.arange(4, 65), np.arange(2, 33), np.arange(4, 65)]
    together = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    found = candidates(options, together)
    assert len(found) == 1 + LEVELS**2 + EXTRA
    assert found[0].tolist() == [64, 32, 64]
    for a, b in ((0, 1), (1, 2)):
        assert len({tuple(pair) for pair in found[1 : 1 + LEVELS**2, [a, b]].tolist()}) == LEVELS**2
    assert all(set(found[:, g].tolist()) <= set(option.tolist()) for g, option in enumerate(options))
    assert np.array_equal(found, candidates(options, together))


def test_colours_differ_where_groups_meet() -> None:
    together = np.zeros((12, 12), dtype=bool)
    together[:4, :4] = ~np.eye(4, dtype=bool)
    assert len(set(coloured(together)[:4].tolist())) == 4
    # More than there are colours: still an answer.
    assert coloured(~np.eye(9, dtype=bool)).max() <= LEVELS


def test_coefficients_are_never_negative() -> None:
    rng = np.random.default_rng(0)
    features = rng.uniform(1, 2, (30, 3))
    target = features @ [0.5, 0.0, 2.0]
    assert nonnegative(features, target) == pytest.approx([0.5, 0.0, 2.0], abs=1e-9)
    assert (nonnegative(features, target - 0.4 * features[:, 1]) >= 0).all()


def test_a_table_is_read_as_it_was_written() -> None:
    graph, _, model = measured("residual", noise=0.05)
    read = unpack_table(pack_table(model.table), len(graph.layers))
    counts = some(graph)
    assert np.array_equal(LatencyModel(model.shapes, read).safe(counts), model.safe(counts))


def test_a_table_that_does_not_fit_is_refused() -> None:
    graph, _, model = measured("residual")
    layers, table = len(graph.layers), model.table
    for content in (
        b"nonsense",
        pack_table(replace(table, ms=-1.0 - table.ms)),
        pack_table(replace(table, rows=table.rows[:, ::-1].copy())),
        pack_table(replace(table, coefficients=table.coefficients * float("nan"))),
        pack_table(replace(table, block=0)),
    ):
        with pytest.raises(StudyError, match="latency table"):
            unpack_table(content, layers)
    with pytest.raises(StudyError, match="fit this network"):
        unpack_table(pack_table(table), layers + 1)


def test_a_layer_that_is_never_seen_is_predicted_by_its_macs() -> None:
    class Blind(FakeTiming):
        def sample(self, network, layers):  # type: ignore[no-untyped-def]
            found = super().sample(network, layers)
            return replace(found, layers={}, tails={})

    timing = Blind(NETWORKS["chain"].images(1), 1)
    graph, slicer, model = table_of("chain", timing)
    counts = some(graph)
    found = [timing.total(slicer.build(first_channels(graph, row))) for row in counts]
    ranks = [np.argsort(np.argsort(values)) for values in (model.predict(counts), found)]
    assert np.corrcoef(*ranks)[0, 1] > 0.8
    assert timing.sampled == steps(options_of(graph), graph)


def test_prediction_of_one_is_that_of_many() -> None:
    graph, _, model = measured("grouped")
    counts = some(graph)
    alone = np.concatenate([model.predict(row[None]) for row in counts])
    assert alone == pytest.approx(model.predict(counts), rel=1e-12)
    assert torch.get_num_threads() == 1
