"""The rung below the measurement: cheap, deterministic, stored, and used to choose."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from autoprune.data.inputs import Inputs
from autoprune.reconstruction import Sequential
from autoprune.reconstruction.remembering import RememberingIndependent
from autoprune.reconstruction.sequential import NEAR
from autoprune.searching import attributes as attr
from autoprune.searching import ladder
from autoprune.searching.engine import Engine
from autoprune.searching.ladder import RUNG_IMAGES
from autoprune.searching.metrics import Accuracy
from autoprune.searching.strategies.base import ADDITIVE, LOSS_ON_FEW, ON_FEW, OnFew, spread_out
from autoprune.searching.strategies.knapsack_sampler import IN_LINE_SD
from autoprune.searching.study import finished

MakeEngine = Callable[..., Engine]


@pytest.mark.parametrize("proxy", [LOSS_ON_FEW, ON_FEW])
def test_of_several_draws_for_a_target_the_best_on_few_images_is_measured(
    make_engine: MakeEngine, proxy: str
) -> None:
    engine = make_engine("residual", trials=12, strategy_options={"draws": 3})
    if proxy == ON_FEW:
        accuracy = engine.task.metric
        engine.task = replace(engine.task, metric=lambda network: accuracy(network))
    engine.search()
    chosen = [trial for trial in finished(engine.study) if attr.TRIED in trial.user_attrs]
    assert len(chosen) > 8, "every trial chooses, from the first on"
    for trial in chosen:
        for tried in trial.user_attrs[attr.TRIED]:
            assert tried[proxy] >= trial.user_attrs[attr.PROXIES][proxy]
            assert (LOSS_ON_FEW in tried) == (proxy == LOSS_ON_FEW)


def test_every_target_has_its_turn_before_any_is_aimed_at_again(make_engine: MakeEngine) -> None:
    engine = make_engine("residual", strategy_options={"draws": 2})
    aims = engine.strategy.aims()  # type: ignore[attr-defined]
    front = engine.search(trials=len(aims))
    for aim, point in zip(spread_out(aims), front.trials, strict=True):
        assert 0.85 * aim <= point.macs <= aim


def test_below_a_budget_nothing_above_it_is_aimed_at_and_its_end_counts(make_engine: MakeEngine) -> None:
    engine = make_engine("residual", budget={"macs": 0.5})
    first = len(engine.strategy.aims())  # type: ignore[attr-defined]
    engine.search(trials=first + 4)
    sampler = engine.strategy.sampler(first)
    experience = engine.strategy.experience(engine.study)  # type: ignore[attr-defined]
    dense, stairs = engine.cost.dense_macs, experience.stairs()
    assert stairs.end == pytest.approx(0.55 * dense, abs=2)
    targets, worths = sampler._targets(stairs)  # type: ignore[attr-defined]
    assert max(targets) <= 0.5 * dense + 1 and (worths > 0).all()
    assert stairs.improvement(0.5 * dense, 1.0, 0.01) > 0


def test_later_trials_aim_into_the_gaps_of_the_front_as_well(make_engine: MakeEngine) -> None:
    engine = make_engine("residual", strategy_options={"draws": 2})
    aims = engine.strategy.aims()  # type: ignore[attr-defined]
    engine.search(trials=len(aims))
    stairs = engine.strategy.experience(engine.study).stairs()  # type: ignore[attr-defined]
    targets, worths = engine.strategy.sampler(len(aims))._targets(stairs)  # type: ignore[attr-defined]
    assert targets == [*aims, *stairs.between()] and len(worths) == len(targets)
    # Of a wide step there is more to gain in its middle than at its end.
    widest = int(np.argmax(np.diff(stairs.costs)))
    middle, end = stairs.between()[widest], stairs.costs[widest + 1]
    assert worths[targets.index(middle)] > stairs.improvement(end, stairs.at(end), IN_LINE_SD)


def test_every_trial_stores_what_the_rungs_said(make_engine: MakeEngine) -> None:
    engine = make_engine("residual", trials=6)
    for point in engine.search().trials:
        counts = np.array([point.widths[name] for name in engine.space.names])
        curves = engine.profile.curves(engine.space.names, point.batch_removal)
        added = sum(curve[count] for curve, count in zip(curves, counts, strict=True))
        assert point.proxies[ADDITIVE] == pytest.approx(added)
        error, loss = engine.rung.judged(dict(point.kept.items()))
        assert point.proxies[ON_FEW] == pytest.approx(error)
        assert point.proxies[LOSS_ON_FEW] == pytest.approx(loss)
    plain = make_engine("residual", trials=3, strategy_options={"draws": 1}).search()
    assert all(set(point.proxies) == {ADDITIVE} for point in plain.trials)


def test_the_rung_restores_as_the_study_does_on_fewer_images(make_engine: MakeEngine) -> None:
    engine = make_engine("residual")
    images = sum(chunk.size for chunk in engine.rung.bench.chunks)
    every = sum(chunk.size for chunk in engine.bench.chunks)
    assert images == every // 2
    dear = replace(engine.ladder, dense_macs=10**13).below()
    assert sum(chunk.size for chunk in dear.bench.chunks) == every // 8
    assert engine.rung.reconstruction == Sequential(rounds=1, reach=NEAR)
    casm = make_engine("residual", reconstruction="casm", reconstruction_options={"start": "independent"})
    assert type(casm.rung.reconstruction).__name__ == "Independent", "as CASM starts"


def test_the_more_images_a_rung_has_the_fewer_positions_it_looks_at(make_engine: MakeEngine) -> None:
    chunks = [Inputs((torch.randn(2_100, 3, 6, 6),))]
    engine = make_engine("residual")
    engine = Engine(replace(engine.task, chunks=chunks), engine.options)
    benches = {images: engine.ladder.on_few(images).bench for images in (48, 700, 1_024, 2_000)}
    positions = {images: bench.positions_per_image for images, bench in benches.items()}
    assert positions == {48: 32, 700: 23, 1_024: 16, 2_000: 16}
    assert sum(chunk.size for chunk in engine.rung.bench.chunks) == RUNG_IMAGES


def test_a_rung_judges_on_no_more_images_than_it_may(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine("residual")
    monkeypatch.setattr(ladder, "JUDGED_IMAGES", 10)
    metric = engine.ladder.below().metric
    assert isinstance(metric, Accuracy) and metric.images == 10


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
    engine = make_engine("residual", trials=8, strategy_options=options)
    front = engine.search()
    _, worths = engine.strategy.sampler(8)._targets(None)  # type: ignore[attr-defined]
    assert worths[0] == worths[1], "whoever names targets wants them alike"
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


def test_a_candidate_whose_outputs_are_no_numbers_ranks_last_and_ends_no_search(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine("residual")
    rung = engine.rung
    monkeypatch.setattr(rung, "_judge", lambda network: (math.nan, math.nan))
    assert rung.judged(engine.graph.all_kept())[1] is None
    assert OnFew(*rung.judged(engine.graph.all_kept())).judgement == math.inf


def test_the_rung_re_estimates_batch_norm_where_the_study_does(make_engine: MakeEngine) -> None:
    assert make_engine("residual", batch_norm=True).rung.batch_norm
    assert not make_engine("residual").rung.batch_norm
