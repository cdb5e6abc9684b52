"""Widths for a budget on the exact costs of real (small) networks."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.errors import BudgetError, ConfigError, ModelError
from autoprune.graph import ChannelGraph, CostModel, find_groups
from autoprune.searching.allocate import allocate, fill, project, total_loss
from autoprune.searching.parameters import BATCH_REMOVAL, distributions, to_counts, to_parameters
from autoprune.searching.space import LATENCY, Space, absolute_bounds, allowed_widths, make_space, rates_of
from tests.small import NETWORKS

Budget = dict[str, float | int]


@cache
def costed(network: str) -> tuple[ChannelGraph, CostModel]:
    small = NETWORKS[network]
    model, images = small.model(), small.images(1)
    graph = find_groups(model, (images,))
    return graph, CostModel(model, graph, (images,))


def space_of(
    network: str, budget: Budget | None = None, *, multiple_of: int = 1, min_kept: float = 0.05
) -> Space:
    graph, cost = costed(network)
    return make_space(graph, cost, min_kept=min_kept, multiple_of=multiple_of, budget=budget)


def curves_of(space: Space, seed: int) -> list[np.ndarray]:
    """Random losses that fall with the width, 0 when dense."""
    rng = np.random.default_rng(seed)
    return [np.append(np.sort(rng.exponential(size=d) * rng.exponential())[::-1], 0.0) for d in space.dense]


def assert_inside(space: Space, counts: np.ndarray) -> None:
    assert all(count in option for count, option in zip(counts, space.options, strict=True))
    costs = space.costs(counts[None])
    assert all(int(costs[name][0]) <= bound for name, bound in space.bounds.items())


networks = st.sampled_from(sorted(NETWORKS))
budgets = st.dictionaries(st.sampled_from(["macs", "params", "bytes"]), st.floats(0.25, 1.0), min_size=1)


@settings(max_examples=80, deadline=None)
@given(networks, budgets, st.integers(0, 99), st.sampled_from([1, 2, 4]), st.sampled_from([0.05, 0.3]))
def test_bounds_hold_exactly(
    network: str, budget: Budget, seed: int, multiple_of: int, min_kept: float
) -> None:
    try:
        space = space_of(network, budget, multiple_of=multiple_of, min_kept=min_kept)
    except BudgetError as error:
        assert "the least is" in str(error) and "% of dense" in str(error)
        return
    curves, rng = curves_of(space, seed), np.random.default_rng(seed)
    proposal = np.array([rng.choice(option) for option in space.options])
    for counts in (proposal, space.dense, space.floor):
        projected = project(space, curves, counts)
        assert_inside(space, projected)
        if (space.costs(counts[None])["macs"] <= 0).all():
            assert np.array_equal(projected, counts)
        filled = fill(space, curves, projected)
        assert_inside(space, filled)
        assert (filled >= projected).all() and total_loss(curves, filled) <= total_loss(curves, projected)
    found = allocate(space, curves)
    assert_inside(space, found)
    assert total_loss(curves, found) <= total_loss(curves, project(space, curves, space.floor)) + 1e-12


@settings(max_examples=30, deadline=None)
@given(networks, st.integers(0, 99))
def test_what_is_within_the_bounds_is_left_alone(network: str, seed: int) -> None:
    space = space_of(network, {"macs": 0.6})
    curves, rng = curves_of(space, seed), np.random.default_rng(seed)
    counts = np.array([rng.choice(option) for option in space.options])
    if space.excess(counts[None])[0] <= 0:
        assert np.array_equal(project(space, curves, counts), counts)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("network", ["grouped", "flattened", "tokens", "concat"])
@pytest.mark.parametrize("budget", [{"macs": 0.5}, {"params": 0.5}, {"macs": 0.6, "params": 0.5}])
def test_allocation_is_near_the_best_of_all_candidates(network: str, budget: Budget, seed: int) -> None:
    space = space_of(network, budget)
    curves = curves_of(space, seed)
    all_counts = np.array(list(itertools.product(*space.options)))
    inside = all_counts[space.excess(all_counts) <= 0]
    losses = [total_loss(curves, counts) for counts in inside]
    found = total_loss(curves, allocate(space, curves))
    share_better = float(np.mean(np.array(losses) < found - 1e-12))
    assert share_better < 0.02 and found <= min(losses) * 1.5 + 1e-9


def test_without_bounds_nothing_goes() -> None:
    space = space_of("residual")
    assert np.array_equal(allocate(space, curves_of(space, 0)), space.dense)
    assert np.array_equal(project(space, curves_of(space, 0), space.dense), space.dense)


def test_a_bound_at_the_floor_leaves_only_the_floor() -> None:
    space = space_of("chain")
    least = {name: int(value[0]) for name, value in space.costs(space.floor[None]).items()}
    tight = space_of("chain", {"macs": least["macs"]})
    curves = curves_of(space, 0)
    assert np.array_equal(allocate(tight, curves), space.floor)
    with pytest.raises(
        BudgetError, match=f"budget macs = {least['macs'] - 1:,} cannot be met.*{least['macs']:,}"
    ):
        space_of("chain", {"macs": least["macs"] - 1})
    with pytest.raises(BudgetError, match=f"params.*{least['params']:,}"):
        space_of("chain", {"macs": 0.9, "params": 2})


def test_allowed_widths() -> None:
    assert allowed_widths(20, 0.05, 1).tolist() == list(range(1, 21))
    assert allowed_widths(20, 0.051, 1)[0] == 2
    assert allowed_widths(20, 0.3, 4).tolist() == [8, 12, 16, 20]
    assert allowed_widths(10, 0.05, 4).tolist() == [4, 8, 10]
    assert allowed_widths(3, 0.05, 8).tolist() == [3]
    assert allowed_widths(1, 0.05, 1).tolist() == [1]
    assert allowed_widths(7, 1.0, 1).tolist() == [7]


@given(st.integers(1, 300), st.floats(0.001, 1.0), st.integers(1, 40))
def test_allowed_widths_hold_floor_and_multiple(width: int, min_kept: float, multiple_of: int) -> None:
    options = allowed_widths(width, min_kept, multiple_of).tolist()
    assert options == sorted(set(options)) and options[-1] == width and options[0] >= 1
    assert all(option % multiple_of == 0 for option in options[:-1])
    assert all(option >= min_kept * width - 1e-6 for option in options)


def test_bounds_are_fractions_up_to_one_and_absolute_above() -> None:
    _, cost = costed("chain")
    assert absolute_bounds(cost, {"macs": 0.5, "params": 700}) == {
        "macs": cost.dense_macs // 2,
        "params": 700,
    }
    assert absolute_bounds(cost, {"bytes": 1.0}) == {"bytes": cost.dense_bytes}
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="budget macs must be a positive number"):
            absolute_bounds(cost, {"macs": value})
    with pytest.raises(ConfigError, match="unknown budget 'latency'"):
        absolute_bounds(cost, {"latency": 0.5})
    tighter = space_of("chain", {"macs": 0.5, "params": 0.9}).within({"macs": cost.dense_macs, "params": 7})
    assert tighter.bounds == {"macs": cost.dense_macs // 2, "params": 7}


def test_no_prunable_group_names_the_reasons() -> None:
    graph, cost = costed("chain")
    with pytest.raises(ModelError, match=r"prunable channel group.*network output"):
        make_space(ChannelGraph((), graph.frozen, graph.layers), cost, min_kept=0.05)


@settings(max_examples=40, deadline=None)
@given(networks, st.integers(0, 99), st.sampled_from([1, 3]))
def test_a_candidate_survives_its_spelling_as_parameters(network: str, seed: int, multiple_of: int) -> None:
    space = space_of(network, multiple_of=multiple_of)
    rng = np.random.default_rng(seed)
    counts = np.array([rng.choice(option) for option in space.options])
    parameters = to_parameters(space, counts, 2)
    assert np.array_equal(to_counts(space, parameters), counts)
    known = distributions(space, [1, 2])
    assert set(parameters) == set(known) and parameters[BATCH_REMOVAL] == 2
    assert all(known[name]._contains(known[name].to_internal_repr(v)) for name, v in parameters.items())
    dense = dict(zip(space.names, map(int, space.dense), strict=True))
    assert rates_of(space.widths(counts), dense) == space.rates(counts)


@pytest.mark.parametrize("seed", range(5))
def test_a_latency_that_no_width_reaches_gives_the_narrowest_candidate(seed: int) -> None:
    """Measured times need not fall with the width, so the narrowest candidate may be above an aim."""
    space = space_of("residual")
    rng = np.random.default_rng(seed)
    slow = replace(space, latencies=lambda counts: 10.0 + rng.uniform(0, 0.1, len(counts)))
    aimed = slow.within({LATENCY: 5.0})
    curves = curves_of(space, seed)
    assert project(aimed, curves, space.dense).tolist() == space.floor.tolist()
    assert allocate(aimed, curves).tolist() == space.floor.tolist()
