"""Thresholds by hand, and the trust radius through acceptances and rejections."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from autoprune.searching.engine import Engine
from autoprune.searching.strategies import RateDerivation
from autoprune.searching.strategies.base import Gradients, LayerGradients
from autoprune.searching.strategies.thresholds import Thresholds, keeps, pruning_error, removed
from autoprune.searching.study import finished
from autoprune.storing.marks import ORIGIN
from tests.searching.test_removal_walk import space_of

MakeEngine = Callable[..., Engine]
RATES = (0.5, 0.4, 0.3, 0.2, 0.1)


def layer(norms: list[float], inverse: float = 100.0, weights: int = 20) -> LayerGradients:
    return LayerGradients(np.array(norms), weights, inverse)


def thresholds(bound: float = 2.0, loss: float = 1.0) -> Thresholds:
    space = space_of()
    rng = np.random.default_rng(0)
    layers = {
        name: [layer(rng.uniform(1, 2, width).tolist(), inverse=float(rng.uniform(1, 3))) for _ in range(2)]
        for name, width in zip(space.names, space.dense, strict=True)
    }
    return Thresholds.of(space, space.dense, Gradients(loss, layers), bound, RATES)


def test_error_and_threshold_are_those_of_the_paper() -> None:
    ten = layer([5, 1, 4, 2, 3, 9, 8, 7, 6, 10])
    assert removed(ten, 0.3) == 3 and pruning_error(ten, 0.3) == pytest.approx((1 + 2 + 3) / 20)
    assert np.flatnonzero(~keeps(ten, 0.3)).tolist() == [1, 3, 4]
    assert removed(layer([1, 1, 1]), 0.3) == 0 and pruning_error(layer([1, 1, 1]), 0.3) == 0.0
    space = space_of()
    found = Gradients(
        0.7, {name: [layer([1.0] * w)] for name, w in zip(space.names, space.dense, strict=True)}
    )
    made = Thresholds.of(space, space.dense, found, 1.0 * (1 + 0.1), RATES)
    assert made.thresholds == pytest.approx((1.1 - 0.7) * 100 / 20)
    assert made.limit == pytest.approx(
        np.sqrt(len(space.names)) * max(made.thresholds.max(), made.errors.max())
    )


def test_rates_are_the_largest_whose_error_is_below_the_clipped_threshold() -> None:
    made = thresholds()
    norm = float(np.linalg.norm(made.thresholds))
    for radius in np.geomspace(1e-3, 2, 25) * norm:
        clipped = made.thresholds * min(1.0, radius / norm)
        for i, rate in enumerate(made.layer_rates(radius)):
            fitting = [r for r, e in zip(made.rates, made.errors[i], strict=True) if e < clipped[i]]
            assert rate == max(fitting, default=0.0)
    assert np.array_equal(made.layer_rates(norm), made.layer_rates(10 * norm))
    assert not made.layer_rates(0.0).any() and np.array_equal(made.proposal(0.0), made.counts)


def test_a_larger_radius_never_keeps_more() -> None:
    made = thresholds()
    widths = [made.proposal(radius) for radius in np.geomspace(1e-4, made.limit, 40)]
    assert all((after <= before).all() for before, after in pairwise(widths))
    assert (widths[-1] < made.counts).any()


def test_coupled_layers_keep_the_union() -> None:
    space = space_of()
    rising, falling = list(range(1, 9)), list(range(8, 0, -1))
    widths = dict(zip(space.names, space.dense, strict=True))
    name = next(name for name, width in widths.items() if width == 8)
    layers = {n: [layer([1.0] * int(w), inverse=0.0)] for n, w in widths.items()}
    layers[name] = [layer(rising, 1e6), layer(falling, 1e6)]
    made = Thresholds.of(space, space.dense, Gradients(0.0, layers), 1.0, (0.5,))
    assert np.array_equal(made.proposal(made.limit), made.counts), "each keeps the half that the other loses"
    layers[name] = [layer(rising, 1e6), layer(rising, 1e6)]
    made = Thresholds.of(space, space.dense, Gradients(0.0, layers), 1.0, (0.5,))
    assert made.proposal(made.limit)[space.names.index(name)] == 4


def test_a_loss_above_its_bound_prunes_nothing() -> None:
    made = thresholds(bound=1.0, loss=1.2)
    assert np.array_equal(made.proposal(made.limit), made.counts)


def searched(make_engine: MakeEngine, **options: Any) -> tuple[Engine, list[dict[str, Any]]]:
    engine = make_engine(
        "residual", strategy="rate-derivation", criterion="l1", trials=60, strategy_options=options
    )
    engine.search()
    return engine, [
        engine.workshop.recall(f"rate-derivation/{i}") for i in range(len(finished(engine.study)))
    ]


def widths(engine: Engine, trial: int) -> dict[str, int]:
    found: dict[str, int] = finished(engine.study)[trial].user_attrs["widths"]
    return found


def test_the_radius_grows_and_shrinks_by_at_least_two(make_engine: MakeEngine) -> None:
    engine, notes = searched(make_engine, tolerance=0.12, margin=4.0)
    trials, dense = finished(engine.study), engine.workshop.dense_accuracy
    accepted = [trial.values[0] + 0.12 > dense for trial in trials]
    assert any(accepted) and not all(accepted)
    strategy = engine.strategy
    assert isinstance(strategy, RateDerivation)
    for i in range(1, len(trials)):
        before, after = notes[i - 1], notes[i]
        assert after["parent"] == (i - 1 if accepted[i - 1] else before["parent"])
        limit = strategy._thresholds(after["parent"], trials).limit
        if accepted[i - 1]:
            assert after["radius"] >= min(2 * before["radius"], limit)
        else:
            assert after["radius"] <= before["radius"] / 2
        assert after["radius"] <= limit
        start = engine.graph.widths if after["parent"] is None else widths(engine, after["parent"])
        assert all(widths(engine, i)[name] <= width for name, width in start.items())
        assert widths(engine, i) != start
    last = strategy.parent(trials)
    assert last == max(i for i, held in enumerate(accepted) if held)


def test_when_nothing_holds_it_goes_back_to_dense_and_ends(make_engine: MakeEngine) -> None:
    engine = make_engine(
        "residual", strategy="rate-derivation", trials=100, strategy_options={"tolerance": 0.0}
    )
    # No candidate exceeds an accuracy that is out of reach.
    study = engine.study
    study.set_user_attr("autoprune.dense", {**study.user_attrs["autoprune.dense"], "accuracy": 2.0})
    engine.search()
    trials = finished(study)
    assert len(trials) < 100 and engine.strategy.done(trials)
    assert {engine.workshop.recall(f"rate-derivation/{t.number}")["parent"] for t in trials} == {None}
    assert len({tuple(t.user_attrs["widths"].values()) for t in trials}) == len(trials)


def test_when_all_holds_it_ends_where_no_rate_has_an_effect(make_engine: MakeEngine) -> None:
    engine, notes = searched(make_engine, tolerance=0.99, margin=1000.0)
    trials = finished(engine.study)
    assert [note["parent"] for note in notes] == [None, *range(len(trials) - 1)]
    assert len(trials) < 60 and engine.strategy.done(trials)
    # Half of a width below two is nothing, and so are smaller rates.
    assert sum(widths(engine, len(trials) - 1).values()) < sum(engine.graph.widths.values()) / 2


def test_a_step_that_was_interrupted_is_that_of_the_trial_that_repeats_it(make_engine: MakeEngine) -> None:
    engine, notes = searched(make_engine, tolerance=0.12, margin=4.0)
    trials, strategy = finished(engine.study), engine.strategy
    assert isinstance(strategy, RateDerivation)
    again = copy.deepcopy(trials[1])
    again.number = 40
    again.set_user_attr(ORIGIN, "again/1")
    found = strategy._last([trials[0], again])
    assert found is not None and found[0].number == 40 and vars(found[1]) == notes[1]
