"""What a search remembers between proposals is what it would read anew."""

from __future__ import annotations

import copy

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from autoprune.searching.attributes import BATCH, PROXIES, TRIED, WIDTHS
from autoprune.searching.engine import Engine
from autoprune.searching.strategies import KnapsackSampler
from autoprune.searching.strategies.base import ON_FEW, OnFew
from autoprune.searching.strategies.experience import LEAST_KNOWN, Experience
from autoprune.searching.study import finished
from tests.searching.conftest import engine_for


def engine(trials: int) -> Engine:
    how = {"batch_removal": (1, 2), "strategy_options": {"targets": (0.3, 0.6)}}
    return engine_for("chain", trials=trials, **how)


@pytest.fixture(scope="module")
def searched() -> Engine:
    made = engine(9)
    made.search()
    return made


@pytest.mark.parametrize("seed", range(3))
def test_trials_that_come_in_parts_and_in_any_order_say_the_same(searched: Engine, seed: int) -> None:
    problem, trials = searched.strategy.problem, finished(searched.study)
    assert any(TRIED in trial.user_attrs for trial in trials)
    whole, parts = Experience(problem), Experience(problem)
    whole.read(trials)
    order = np.random.default_rng(seed).permutation(len(trials))
    for end in (1, 2, 5, len(trials), len(trials)):
        # All that are finished come each time, as a study gives them.
        parts.read([trials[place] for place in order[:end]])
    assert parts.known == whole.known and len(whole.known) >= len(trials)
    np.testing.assert_array_equal(parts.surrogate.mean, whole.surrogate.mean)
    np.testing.assert_array_equal(parts.surrogate.covariance, whole.surrogate.covariance)
    one, other = parts.stairs(), whole.stairs()
    np.testing.assert_array_equal(one.costs, other.costs)
    np.testing.assert_array_equal(one.accuracies, other.accuracies)
    first, second = parts.forecast(), whole.forecast()
    assert first is not None and second is not None
    for share in (0.2, 0.5):
        assert first(share * one.end, 0.3) == second(share * one.end, 0.3)


def test_a_forecast_needs_measured_candidates(searched: Engine) -> None:
    experience = Experience(searched.strategy.problem)
    assert experience.forecast() is None
    assert experience.stairs().accuracies.tolist() == [0.0], "what a network has that learned nothing"
    experience.read(finished(searched.study)[: LEAST_KNOWN - 1])
    assert experience.forecast() is None
    experience.read(finished(searched.study)[:LEAST_KNOWN])
    assert experience.forecast() is not None


def test_a_broken_candidate_is_ranked_last_and_teaches_no_forecast(searched: Engine) -> None:
    assert OnFew(float("nan"), 0.0).judgement == np.inf > OnFew(1e6).judgement
    trials = [copy.deepcopy(trial) for trial in finished(searched.study)]
    trials[0].user_attrs[PROXIES][ON_FEW] = float("nan")
    experience = Experience(searched.strategy.problem)
    experience.read(trials)
    forecast = experience.forecast()
    assert forecast is not None and len(forecast.costs) == len(trials) - 1
    assert np.isfinite(forecast(0.5 * forecast.dense, 0.4)).all()


def test_who_saw_the_trials_and_who_continues_propose_the_same() -> None:
    """The one remembers its trials; the other meets them all at once, some under another number."""
    one, other = engine(9), engine(10)
    one.search()
    for place, trial in enumerate(finished(one.study)):
        if place in (1, 6):
            other.study.add_trial(optuna.create_trial(state=TrialState.FAIL))
        other.study.add_trial(trial)
    first, second = one.search(trials=10).trials[-1], other.search().trials[-1]
    assert {**first.to_json(), "trial": None} == {**second.to_json(), "trial": None}
    assert (first.trial, second.trial) == (9, 11)


def test_what_others_are_at_is_known(searched: Engine) -> None:
    trial = finished(searched.study)[-1]
    study = optuna.create_study(directions=["maximize", "minimize"])
    running = optuna.create_trial(
        state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions
    )
    study.add_trials([running, optuna.create_trial(state=TrialState.RUNNING)])
    sampler = searched.strategy.sampler(0)
    assert isinstance(sampler, KnapsackSampler)
    counts = [trial.user_attrs[WIDTHS][name] for name in searched.space.names]
    assert sampler._begun(study) == {(trial.user_attrs[BATCH], *counts)}
