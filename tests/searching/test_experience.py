"""What a search remembers between proposals is what it would read anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from autoprune.searching.attributes import TRIED
from autoprune.searching.engine import Engine
from autoprune.searching.strategies import Knapsack
from autoprune.searching.strategies.experience import Experience
from autoprune.searching.study import finished

MakeEngine = Callable[..., Engine]
HOW: dict[str, Any] = {"batch_removal": (1, 2), "strategy_options": {"targets": (0.3, 0.6)}}


@pytest.fixture
def searched(make_engine: MakeEngine) -> Engine:
    engine = make_engine("residual", **HOW, trials=16)
    engine.search()
    return engine


@pytest.mark.parametrize("seed", range(3))
def test_trials_that_come_in_parts_and_in_any_order_say_the_same(searched: Engine, seed: int) -> None:
    problem, trials = searched.strategy.problem, finished(searched.study)
    assert any(TRIED in trial.user_attrs for trial in trials)
    whole, parts = Experience(problem), Experience(problem)
    whole.read(trials)
    order = np.random.default_rng(seed).permutation(len(trials))
    for end in (1, 2, 9, len(trials), len(trials)):
        # All that are finished come each time, as a study gives them.
        parts.read([trials[place] for place in order[:end]])
    assert parts.known == whole.known and len(whole.known) >= 16
    np.testing.assert_array_equal(parts.surrogate.mean, whole.surrogate.mean)
    np.testing.assert_array_equal(parts.surrogate.covariance, whole.surrogate.covariance)
    for macs in (0, 1_000, 10_000, 10**9):
        assert parts.least_error(macs) == whole.least_error(macs)
    assert whole.least_error(0) == np.inf > whole.least_error(10**9)


def test_who_saw_the_trials_and_who_continues_propose_the_same(
    searched: Engine, make_engine: MakeEngine
) -> None:
    """The one remembers its trials; the other meets them all at once, and each under another number."""
    other = make_engine("residual", **HOW, trials=17)
    failed = optuna.create_trial(state=TrialState.FAIL)
    for place, trial in enumerate(finished(searched.study)):
        if place in (3, 11):
            other.study.add_trial(failed)
        other.study.add_trial(trial)
    first, second = searched.search(trials=17).trials[-1], other.search().trials[-1]
    assert {**first.to_json(), "trial": None} == {**second.to_json(), "trial": None}
    assert (first.trial, second.trial) == (16, 18)


def test_candidates_that_others_are_at_are_not_proposed(searched: Engine) -> None:
    strategy, study = searched.strategy, searched.study
    assert isinstance(strategy, Knapsack)
    proposed = searched.search(trials=17).trials[-1]
    trial = finished(study)[-1]
    running = optuna.create_trial(
        state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions
    )
    study.add_trial(running)
    begun = strategy.sampler(0)._begun(study)  # type: ignore[attr-defined]
    counts = tuple(proposed.widths[name] for name in searched.space.names)
    assert begun == {(proposed.batch_removal, *counts)}
