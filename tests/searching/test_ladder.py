"""The rung below the measurement: cheap, deterministic, stored, and used to choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from autoprune.reconstruction import Sequential
from autoprune.reconstruction.remembering import RememberingIndependent
from autoprune.reconstruction.sequential import NEAR
from autoprune.searching import attributes as attr
from autoprune.searching.engine import Engine
from autoprune.searching.strategies.base import ADDITIVE, ON_FEW
from autoprune.searching.study import finished

MakeEngine = Callable[..., Engine]


def test_of_several_draws_the_one_with_the_least_error_on_few_images_is_measured(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine("residual", trials=40, strategy_options={"draws": 3})
    engine.search()
    chosen = [trial for trial in finished(engine.study) if attr.TRIED in trial.user_attrs]
    assert chosen, "trials behind the warm start choose among draws"
    for trial in chosen:
        macs = trial.user_attrs[attr.COSTS]["macs"]
        for tried in trial.user_attrs[attr.TRIED]:
            cost = int(engine.space.costs(np.array([tried["counts"]]))["macs"][0])
            if abs(cost - macs) < 0.01 * engine.cost.dense_macs:
                assert tried[ON_FEW] >= trial.user_attrs[attr.PROXIES][ON_FEW]


def test_every_trial_stores_what_the_rungs_said(make_engine: MakeEngine) -> None:
    engine = make_engine("residual", trials=6)
    for point in engine.search().trials:
        counts = np.array([point.widths[name] for name in engine.space.names])
        curves = engine.profile.curves(engine.space.names, point.batch_removal)
        added = sum(curve[count] for curve, count in zip(curves, counts, strict=True))
        assert point.proxies[ADDITIVE] == pytest.approx(added)
        assert point.proxies[ON_FEW] == pytest.approx(engine.rung.error(dict(point.kept.items())))
    plain = make_engine("residual", trials=3, strategy_options={"draws": 1}).search()
    assert all(set(point.proxies) == {ADDITIVE} for point in plain.trials)


def test_the_rung_restores_as_the_study_does_on_fewer_images(make_engine: MakeEngine) -> None:
    engine = make_engine("residual")
    images = sum(chunk.size for chunk in engine.rung.bench.chunks)
    assert images == sum(chunk.size for chunk in engine.bench.chunks) // 8
    assert engine.rung.reconstruction == Sequential(rounds=1, reach=NEAR)
    casm = make_engine("residual", reconstruction="casm", reconstruction_options={"start": "independent"})
    assert type(casm.rung.reconstruction).__name__ == "Independent", "as CASM starts"


def test_a_profile_restores_as_the_study_does_where_that_is_affordable(make_engine: MakeEngine) -> None:
    ladder = make_engine("residual").ladder
    assert isinstance(ladder.profiling().reconstruction, Sequential)
    large = replace(ladder, dense_macs=10**13)
    assert isinstance(large.profiling().reconstruction, RememberingIndependent)


def test_the_accuracy_before_reconstruction_is_measured_where_a_trial_joins_the_front(
    make_engine: MakeEngine,
) -> None:
    front = make_engine("residual", trials=30).search()
    assert all(point.accuracy_before_reconstruction is not None for point in front)
    outside = [point for point in front.trials if point.accuracy_before_reconstruction is None]
    assert outside, "most trials of a long search do not join"
    for point in outside:
        assert any(p.accuracy >= point.accuracy and p.macs <= point.macs for p in front)


def test_targets_are_aimed_at_and_no_others(make_engine: MakeEngine) -> None:
    options = {"targets": [0.5, 0.8]}
    front = make_engine("residual", trials=8, strategy_options=options).search()
    dense = front.dense.macs
    for point in front.trials:
        assert any(0.9 * share * dense <= point.macs <= share * dense + 1 for share in options["targets"])


def test_what_others_are_at_or_is_queued_is_not_proposed_again(make_engine: MakeEngine) -> None:
    engine = make_engine(trials=20)
    engine.search()
    study, sampler = engine.study, engine.strategy.sampler(20)
    drawn = study.ask()
    frozen = study.get_trials(deepcopy=False)[drawn.number]
    first = sampler.propose(study, frozen)  # type: ignore[attr-defined]
    assert sampler.propose(study, frozen) == first  # type: ignore[attr-defined]
    study.enqueue_trial(first)
    assert sampler.propose(study, frozen) != first  # type: ignore[attr-defined]
