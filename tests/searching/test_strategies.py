"""Contract of every strategy: budgets hold, runs repeat and continue, and a search ends."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from autoprune.components import options_of
from autoprune.criteria import group_view
from autoprune.criteria.dispersion import kernel_dispersion
from autoprune.errors import ConfigError
from autoprune.searching.engine import Engine
from autoprune.searching.front import Front
from autoprune.searching.parameters import BATCH_REMOVAL
from autoprune.searching.strategies import Dispersion, strategies
from autoprune.searching.strategies.uniform import scaled_rates
from autoprune.searching.study import finished, read_front
from autoprune.storing.marks import WORKER

MakeEngine = Callable[..., Engine]

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in strategies),
    ("fp-omp-search", {"measure": "accuracy", "images": 32, "lazy": False}),
    ("fp-omp-search", {"measure": "layer-error", "per_cost": True}),
    ("rate-derivation", {"tolerance": 0.3, "margin": 2.0}),
    ("dispersion", {"exponent": 2.0, "p_max": 0.4}),
]
IDS = ["-".join([name, *map(str, options.values())]) for name, options in VARIANTS]


def record(front: Front) -> list[dict[str, Any]]:
    return [point.to_json() for point in front.trials]


ALTERNATING = [
    (name, options, network)
    for (name, options), network in zip(VARIANTS, itertools.cycle(["residual", "grouped"]), strict=False)
]


@pytest.mark.parametrize(("strategy", "options", "network"), ALTERNATING, ids=IDS)
def test_budgets_hold_and_a_run_repeats(
    make_engine: MakeEngine, strategy: str, options: dict[str, Any], network: str
) -> None:
    budget = {"macs": 0.6, "params": 0.7}
    how = {"budget": budget, "trials": 14, "seed": 5, "multiple_of": 2, "min_kept": 0.2}
    engine = make_engine(network, strategy=strategy, strategy_options=options, **how)
    front = engine.search()
    ended = engine.strategy.done(finished(engine.study))
    assert len(front.trials) == 14 or (ended and front.trials)
    assert ended or len({tuple(point.widths.items()) for point in front.trials}) > 2
    for point in front.trials:
        assert point.macs <= 0.6 * front.dense.macs and point.params <= 0.7 * front.dense.params
        for name, kept in point.widths.items():
            width = engine.graph.widths[name]
            assert kept >= 0.2 * width and (kept % 2 == 0 or kept == width)
    again = make_engine(network, strategy=strategy, strategy_options=options, **how)
    assert record(again.search()) == record(front)


@pytest.mark.parametrize(("strategy", "options"), VARIANTS, ids=IDS)
def test_a_resumed_study_equals_an_uninterrupted_one(
    make_engine: MakeEngine, strategy: str, options: dict[str, Any], tmp_path: Path
) -> None:
    how = {"strategy": strategy, "strategy_options": options, "batch_removal": (1, 3)}
    whole = make_engine(**how, trials=10)
    front = whole.search()
    path = str(tmp_path / "deep" / "study.journal")
    for total in (2, 5, 10, 10, 3):
        parts = make_engine(**how, storage=path, trials=total)
        resumed = parts.search()
    assert record(resumed) == record(front) == record(read_front(path, "study"))
    stored = parts.study.user_attrs
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored


@pytest.mark.parametrize(("strategy", "options"), VARIANTS, ids=IDS)
def test_parameters_lie_within_their_distributions(
    make_engine: MakeEngine, strategy: str, options: dict[str, Any]
) -> None:
    engine = make_engine("concat", strategy=strategy, strategy_options=options, trials=10, min_kept=0.3)
    engine.search()
    for trial in finished(engine.study):
        assert set(trial.params) == set(trial.distributions)
        for name, distribution in trial.distributions.items():
            if isinstance(distribution, CategoricalDistribution):
                assert name == BATCH_REMOVAL and trial.params[name] in distribution.choices
            else:
                assert isinstance(distribution, FloatDistribution)
                assert distribution.low <= trial.params[name] <= distribution.high


@pytest.mark.parametrize("strategy", ["uniform", "dispersion", "fp-omp-search", "rate-derivation", "history"])
def test_a_search_ends_early_and_stays_ended(make_engine: MakeEngine, strategy: str, tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")
    engine = make_engine(strategy=strategy, trials=500, batch_removal=(4, 2), storage=path)
    front = engine.search()
    assert 1 <= len(front.trials) < 100
    again = make_engine(strategy=strategy, trials=500, batch_removal=(4, 2), storage=path)
    assert record(again.search()) == record(front)
    keys = {(point.batch_removal, *point.widths.values()) for point in front.trials}
    assert len(keys) == len(front.trials), "a candidate was evaluated twice"


@pytest.mark.parametrize("strategy", ["uniform", "fp-omp-search"])
def test_a_plan_is_finished_whatever_was_tried_before(make_engine: MakeEngine, strategy: str) -> None:
    how = {"strategy": strategy, "batch_removal": (2,)}
    engine = make_engine(trials=4, batch_removal=(2,))
    engine.search()
    other = Engine(engine.task, engine.options, engine.storage)
    object.__setattr__(other.options, "strategy", strategy)
    found = {tuple(point.widths.values()) for point in other.search(trials=500).trials}
    alone = {tuple(point.widths.values()) for point in make_engine(**how, trials=500).search().trials}
    assert alone <= found


def test_workers_of_a_plan_share_it(make_engine: MakeEngine) -> None:
    engine = make_engine(strategy="uniform", batch_removal=(1,), trials=1)
    engine.search()
    study, strategy = engine.study, engine.strategy
    study.sampler = strategy.sampler(1)
    other = study.ask(study.get_trials()[0].distributions)
    other.set_user_attr(WORKER, f"{socket.gethostname()}/1")
    engine.search(trials=3, stop=lambda: len(finished(study)) == 2)
    second = finished(study)[1].params
    assert other.params != second and study.get_trials()[other.number].state is TrialState.RUNNING


@pytest.mark.parametrize("network", ["chain", "residual", "concat", "separable"])
def test_uniform_rates_differ_by_rounding_alone(make_engine: MakeEngine, network: str) -> None:
    engine = make_engine(network, strategy="uniform", batch_removal=(1,), trials=30)
    front = engine.search()
    targets = engine.strategy.problem.targets()
    assert len(front.trials) > len(targets) / 2
    for point in front.trials:
        pairs = [(point.widths[name], width) for name, width in engine.graph.widths.items()]
        # The widths' rounding intervals in rates have a point in common, but for the floor.
        assert max((k - 0.5) / w for k, w in pairs) <= min(
            [(k + 0.5) / w for k, w in pairs if k > 1], default=1
        )
        target = min(t for t in targets if t >= point.macs)
        assert point.macs <= target


def test_uniform_takes_the_least_rate_that_meets_the_target(make_engine: MakeEngine) -> None:
    space = make_engine().space
    for share in (0.2, 0.5, 0.8):
        goal = space.within({"macs": int(share * space.cost.dense_macs)})
        found = scaled_rates(goal, np.ones(len(space.names)), 1.0)
        assert found is not None and goal.excess(found[None])[0] <= 0
        lowest = 1.0 - found / space.dense
        for rate in np.linspace(0, max(lowest.min() - 0.05, 0), 20):
            counts = space.counts({name: float(rate) for name in space.names})
            assert goal.excess(counts[None])[0] > 0 or np.array_equal(counts, found)


def test_weights_may_be_of_very_different_size(make_engine: MakeEngine) -> None:
    space = make_engine().space
    goal = space.within({"macs": int(0.8 * space.cost.dense_macs)})
    even, skewed = np.ones(len(space.names)), np.ones(len(space.names))
    skewed[0] = 1e-16
    first, other = scaled_rates(goal, even, 1.0), scaled_rates(goal, skewed, 1.0)
    assert first is not None and other is not None
    # The others lose what is needed, and not all that they have.
    assert other[0] == space.dense[0] and 0.7 * goal.bounds["macs"] < space.cost.evaluate(other[None]).macs[0]
    dense = scaled_rates(space.within({"macs": space.cost.dense_macs}), even, 1.0)
    assert dense is not None and np.array_equal(dense, space.dense)


def test_rates_fall_where_dispersion_rises(make_engine: MakeEngine) -> None:
    options = {"exponent": 3.0, "p_max": 0.6}
    how = {"strategy": "dispersion", "strategy_options": options, "batch_removal": (1,)}
    engine = make_engine("concat", trials=60, **how)
    front = engine.search()
    bench = engine.bench
    views = [group_view(bench.model, bench.graph, bench.statistics, g, 0) for g in bench.graph.groups]
    spread = {view.name: kernel_dispersion(view.filters) for view in views}
    names = sorted(spread, key=spread.__getitem__)
    assert [engine.workshop.dispersion(name) for name in names] == [spread[name] for name in names]
    assert len(front.trials) >= 3
    for point in front.trials:
        slack = {name: 0.5 / engine.graph.widths[name] + 1e-9 for name in names}
        rates = [point.rates[name] for name in names]
        assert all(rate <= 0.6 + slack[name] for name, rate in zip(names, rates, strict=True))
        for i, more in enumerate(names):
            for j in range(i):
                assert rates[j] >= rates[i] - slack[more] - slack[names[j]]


def test_a_budget_beyond_p_max_is_still_held(make_engine: MakeEngine) -> None:
    engine = make_engine(
        strategy="dispersion", strategy_options={"p_max": 0.1}, budget={"macs": 0.3}, batch_removal=(2,)
    )
    front = engine.search()
    assert len(front.trials) == 1 and front.trials[0].macs <= 0.3 * front.dense.macs


def test_a_metric_without_classes_is_refused_before_long_work(make_engine: MakeEngine) -> None:
    task = make_engine().task
    object.__setattr__(task, "metric", lambda network: 0.5)
    options = make_engine(strategy="rate-derivation").options
    with pytest.raises(ConfigError, match=r"'rate-derivation' needs classes.*validation loader"):
        Engine(task, options)


def test_options_are_those_of_the_papers() -> None:
    assert options_of(strategies["fp-omp-search"])["measure"] == "last-layer-error"
    assert options_of(strategies["rate-derivation"])["rates"] == (0.5, 0.4, 0.3, 0.2, 0.1)
    assert set(options_of(Dispersion)) == {"exponent", "p_max"}


@pytest.mark.parametrize("strategy", ["random", "nsga2", "tpe", "gp"])
def test_optuna_s_samplers_start_from_the_knapsack_front_only_if_asked(
    make_engine: MakeEngine, strategy: str
) -> None:
    knapsack = make_engine("residual", strategy_options={"draws": 1}).strategy.warm_start()
    assert knapsack and make_engine("residual").strategy.warm_start() == [], "chosen among draws instead"
    warm = make_engine("residual", strategy=strategy).strategy
    cold = make_engine("residual", strategy=strategy, strategy_options={"warm": False}).strategy
    assert warm.warm_start() == knapsack and cold.warm_start() == []
