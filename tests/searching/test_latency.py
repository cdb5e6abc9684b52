"""Latency as objective and as budget, with a clock that is a known function of the widths."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.errors import BudgetError, ConfigError, StudyError
from autoprune.latency.timing import Sample
from autoprune.searching import attributes as attr
from autoprune.searching.allocate import project
from autoprune.searching.engine import Engine
from autoprune.searching.front import Front
from autoprune.searching.overview import overview
from autoprune.searching.running import best_so_far
from autoprune.searching.space import LATENCY
from autoprune.searching.stored import read_trial, read_widths
from autoprune.searching.study import finished, front_of, read_front, stored_study
from tests.latency.fake import FakeTiming
from tests.searching.conftest import engine_for

BASE: dict[str, Any] = {"batch_removal": (1,), "strategy_options": {"draws": 1}}


def timed(
    network: str = "chain", storage: str | None = None, *, clock: Any = FakeTiming, **how: Any
) -> Engine:
    engine = engine_for(network, storage, **{**BASE, **how})
    engine._make_timing = clock
    return engine


def record(front: Front) -> list[dict[str, Any]]:
    return [point.to_json() for point in front.trials]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Front]:
    path = str(tmp_path_factory.mktemp("latency") / "study.journal")
    return path, timed(storage=path, objective="latency", trials=10).search()


def test_the_front_runs_over_measured_latency(searched: tuple[str, Front]) -> None:
    front = searched[1]
    assert front.objective == "latency" and len(front) > 2
    times = [point.latency_ms for point in front]
    accuracies = [point.accuracy for point in front]
    assert times == sorted(times) and accuracies == sorted(set(accuracies))
    for point in front.trials:
        assert any(o.latency_ms <= point.latency_ms and o.accuracy >= point.accuracy for o in front)
        assert point.latency_predicted_ms == pytest.approx(point.latency_ms, rel=0.1)


def test_candidates_spread_over_the_shares_of_latency(searched: tuple[str, Front]) -> None:
    shares = sorted(searched[1].share(point) for point in searched[1].trials)
    assert shares[0] < 0.4 < 0.8 < shares[-1]
    assert max(b - a for a, b in itertools.pairwise(shares)) < 0.25


def test_values_of_trials_are_shares_of_the_objective(searched: tuple[str, Front]) -> None:
    path, front = searched
    engine = timed(storage=path, objective="latency", trials=10)
    for trial, point in zip(finished(engine.study), front.trials, strict=True):
        assert trial.values == [point.accuracy, pytest.approx(front.share(point))]
    assert engine.study.metric_names == ["accuracy", "latency_ratio"]
    best = overview(engine.study).best
    assert best is not None and best.macs_ratio == front.of_trial(best.trial).macs_ratio


def test_a_stored_front_is_read_without_the_network(searched: tuple[str, Front]) -> None:
    path, front = searched
    read = read_front(path, "study")
    assert record(read) == record(front) and read.to_json() == front.to_json()
    assert read.to_json()["objective"] == "latency" and LATENCY in read.to_json()["dense"]
    assert json.loads(json.dumps(read.to_json(), allow_nan=False)) == read.to_json()


def test_the_same_trials_have_a_front_over_every_cost(searched: tuple[str, Front]) -> None:
    for name, cost in (("macs", "macs"), ("params", "params"), ("latency", "latency_ms")):
        costs = [getattr(point, cost) for point in searched[1].over(name)]
        assert costs == sorted(costs) and costs
    with pytest.raises(ConfigError, match="unknown cost"):
        searched[1].over("beauty")


def test_a_search_that_continues_equals_one_that_ran_through(
    searched: tuple[str, Front], tmp_path: Path
) -> None:
    path = str(tmp_path / "study.journal")
    clocks: list[FakeTiming] = []

    def clock(*args: Any) -> FakeTiming:
        clocks.append(FakeTiming(*args))
        return clocks[-1]

    for total in (3, 10):
        front = timed(storage=path, objective="latency", trials=total, clock=clock).search()
    assert record(front) == record(searched[1])
    assert sum(one.sampled > 0 for one in clocks) == 1, "the table is measured once a study"


@pytest.mark.parametrize("strategy", ["knapsack", "uniform", "tpe", "fp-omp-search"])
def test_proposals_keep_a_budget_of_latency_and_of_macs(strategy: str) -> None:
    options: dict[str, Any] = {"draws": 1} if strategy == "knapsack" else {}
    dense = timed(objective="latency").dense.measure().latency_ms
    assert dense is not None
    budget = {LATENCY: 0.6 * dense, "macs": 0.7}
    engine = timed(budget=budget, trials=6, strategy=strategy, strategy_options=options)
    front = engine.search()
    assert front.trials and front.objective == "macs" and not front.too_slow
    for point in front.trials:
        assert point.macs <= 0.7 * front.dense.macs
        assert point.latency_predicted_ms is not None and point.latency_predicted_ms <= 0.6 * dense
        assert point.within({LATENCY: 0.62 * dense})


def test_projection_keeps_the_budget_with_the_margin_of_a_noisy_clock() -> None:
    noisy = partial(FakeTiming, noise=0.05)
    engine = timed("residual", budget={LATENCY: 2.0}, clock=noisy)
    space, rng = engine.space, np.random.default_rng(0)
    curves = [np.linspace(1.0, 0.0, option[-1] + 1) for option in space.options]
    assert engine.latency.table.margin > 0.03
    for _ in range(10):
        counts = project(space, curves, np.array([rng.choice(option) for option in space.options]))
        assert space.latencies is not None and space.latencies(counts[None])[0] <= 2.0
        assert engine.latency.predict(counts[None])[0] * (1 + engine.latency.table.margin) <= 2.0 + 1e-9


def test_what_is_measured_above_the_budget_is_on_no_front() -> None:
    dense = timed(objective="latency").dense.measure().latency_ms
    assert dense is not None
    bound = 0.7 * dense
    slow = partial(FakeTiming, slower=1.3)
    front = timed(budget={LATENCY: bound}, objective="latency", trials=6, clock=slow).search()
    assert front.latency_bound == bound and front.too_slow
    assert all(point.latency_ms <= bound for point in front)
    assert {p.trial for p in front.too_slow}.isdisjoint(p.trial for p in front)


def test_the_best_within_a_budget_is_measured_within_it(searched: tuple[str, Front]) -> None:
    front = searched[1]
    dense = front.dense.latency_ms
    assert dense is not None
    best = front.best(latency_ms=0.6 * dense)
    assert best.latency_ms + best.latency_spread_ms <= 0.6 * dense
    assert front.best(latency_ms=0.6 * dense, macs=0.5).macs <= 0.5 * front.dense.macs
    with pytest.raises(BudgetError, match=r"latency_ms <= 0\.01"):
        front.best(latency_ms=0.01)


def test_a_budget_out_of_reach_is_refused_before_the_network_is_judged() -> None:
    engine = timed(budget={LATENCY: 0.01})

    def metric(network: object) -> float:
        raise AssertionError("long work")

    object.__setattr__(engine.task, "metric", metric)
    with pytest.raises(BudgetError, match=r"latency_ms = 0.01 cannot be met.*the least is 0\.\d+, "):
        engine.search()


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_a_budget_is_positive_milliseconds(value: float) -> None:
    with pytest.raises(ConfigError, match="latency_ms must be a positive number"):
        timed(budget={LATENCY: value}).check()


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown objective 'latencies'.*latency"):
        timed(objective="latencies")


def test_another_objective_is_another_study(searched: tuple[str, Front]) -> None:
    with pytest.raises(StudyError, match="objective: stored 'latency'"):
        timed(storage=searched[0], trials=10).search()


def test_a_study_is_not_timed_elsewhere(searched: tuple[str, Front], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.searching.stopwatch.device_name", lambda device: "abacus")
    engine = timed(storage=searched[0], objective="latency", trials=11)
    with pytest.raises(StudyError, match="this is 'abacus'"):
        engine.search()
    # What was found is built anywhere.
    assert engine.front().points[0].build() is not None


def test_what_nobody_asked_for_is_not_timed() -> None:
    def never(*args: Any) -> FakeTiming:
        raise AssertionError("timed")

    engine = timed(trials=2, clock=never)
    front = engine.search()
    assert all(point.latency_ms is None for point in front) and front.dense.latency_ms is None
    assert attr.TIMED_ON not in engine.study.user_attrs
    assert not any(attr.LATENCY in trial.user_attrs for trial in engine.study.get_trials())
    assert not {"objective", "latency_batch"} & set(engine.study.user_attrs[attr.IDENTITY])
    with pytest.raises(StudyError, match="did not time its networks"):
        front.best(latency_ms=5.0)


def test_parameters_can_be_the_objective() -> None:
    front = timed(objective="params", trials=6).search()
    params = [point.params for point in front]
    assert params == sorted(params) and front.points[0].params < 0.5 * front.dense.params
    assert min(front.share(point) for point in front) == front.points[0].params_ratio


@pytest.mark.parametrize(
    "change",
    [
        lambda marks: marks.update({attr.LATENCY: 5.0}),
        lambda marks: marks[attr.LATENCY].update(ms=-1.0),
        lambda marks: marks[attr.LATENCY].update(ms="fast"),
        lambda marks: marks[attr.LATENCY].pop("spread_ms"),
    ],
)
def test_damaged_latencies_are_refused(
    searched: tuple[str, Front], change: Callable[[dict[str, Any]], Any]
) -> None:
    study = stored_study(searched[0], "study")
    trial = finished(study)[0]
    read_trial(trial, read_widths(study))
    marks = json.loads(json.dumps(trial.user_attrs))
    change(marks)
    trial._user_attrs = marks
    with pytest.raises(StudyError, match="damaged"):
        read_trial(trial, read_widths(study))


def test_nothing_within_a_bound_is_said_in_words_of_a_front_without_points_too(
    searched: tuple[str, Front],
) -> None:
    with pytest.raises(BudgetError, match="no finished trial yet"):
        timed(objective="latency").front().best(latency_ms=1.0)
    all_slow = replace(searched[1], latency_bound=1e-6)
    assert len(all_slow) == 0 and len(all_slow.trials) == 10 and all_slow.takes(0.0, math.inf)
    for bounds in ({"latency_ms": 1e9}, {"macs": 1.0}):
        with pytest.raises(BudgetError, match="no finished trial has"):
            all_slow.best(**bounds)


def test_targets_of_latency_are_checked_without_a_clock() -> None:
    def no_clock(*_: object) -> Any:
        raise AssertionError("a table was measured")

    timed(objective="latency", strategy_options={"targets": [0.5]}, clock=no_clock).check()
    assert len(timed(objective="latency", strategy_options={"targets": [0.5]}, trials=2).search().trials) == 2


class Running(FakeTiming):
    """Runs what it times: with as many heads as its weights say, each three channels wide."""

    def sample(self, network: nn.Module, layers: Mapping[str, str]) -> Sample:
        with torch.no_grad():
            self.inputs.call(network)
        attention = network.get_submodule("attention")
        assert attention.in_proj_weight.shape[0] == 3 * 3 * attention.num_heads
        return super().sample(network, layers)


def test_attention_is_timed_with_as_many_heads_as_are_left() -> None:
    engine = timed("heads", objective="latency", trials=3, clock=Running)
    assert any(group.macs_per_unit for group in engine.graph.groups)
    assert len(engine.search().trials) == 3


def test_what_was_measured_above_the_budget_is_nowhere_the_best() -> None:
    engine = timed(objective="latency", trials=6)
    engine.search()
    study, best = engine.study, overview(engine.study).best
    assert best is not None
    slow = next(point for point in front_of(study).trials if point.trial == best.trial)
    bound = 0.999 * (slow.bounded("latency_ms") or 0.0)
    study.set_user_attr(attr.IDENTITY, {**study.user_attrs[attr.IDENTITY], "budget": {"latency_ms": bound}})
    left, front = overview(study).best, front_of(study)
    assert slow in front.too_slow and slow not in front.in_bound
    assert left is not None and left.trial in {point.trial for point in front.in_bound}
    named = {front.metric.shown(point.accuracy, 1) for point in front.in_bound}
    assert best_so_far(study).split(" at ")[0] in named
