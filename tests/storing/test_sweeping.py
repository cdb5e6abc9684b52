"""Trials of the dead fail and are repeated once; those of the living are left alone."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from optuna import Study
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from autoprune.storing.marks import ERROR, INTENT, LOST, ORIGIN, PULSE, WORKER
from autoprune.storing.queueing import suggest
from autoprune.storing.sweeping import Sweeper
from autoprune.storing.workers import is_gone, lives_here, new_worker
from tests.storing.conftest import SPACE, States, numbers, taken

HOST = socket.gethostname()


@pytest.fixture(scope="module")
def dead() -> str:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    return f"{HOST}/{child.pid}/abc"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def begun(study: Study, worker: str) -> int:
    trial = taken(study, worker, 100)
    assert trial is not None
    suggest(trial, SPACE)
    return trial.number


def test_who_lives(dead: str) -> None:
    with new_worker() as worker:
        assert lives_here(worker) and not is_gone(worker)
    assert is_gone(worker), "the process lives, the worker does not"
    assert is_gone(dead) and not lives_here(dead)
    assert lives_here(f"{HOST}/1/x") and not is_gone(f"{HOST}/1")
    assert not is_gone("elsewhere/7/x") and not lives_here("elsewhere/7/x")


def test_the_dead_are_failed_and_repeated_once(study: Study, states: States, dead: str) -> None:
    first = begun(study, dead)
    params = study.get_trials()[first].params
    with new_worker() as living:
        kept = begun(study, living)
        sweeper = Sweeper(study, SPACE)
        assert sweeper.sweep() == 1 and sweeper.sweep() == 0
        assert states(study) == ["FAIL", "RUNNING", "WAITING"]
        assert LOST in study.get_trials()[first].user_attrs and kept == 1
    second = begun(study, dead)
    repeated = study.get_trials()[second]
    assert repeated.params == params and repeated.user_attrs[ORIGIN] == f"again/{first}"
    assert Sweeper(study, SPACE).sweep() == 2, "the worker of trial 1 has ended too"
    queued = study.get_trials(states=(TrialState.WAITING,))
    assert [trial.user_attrs[ORIGIN] for trial in queued] == ["again/1"], "a repeated one is not repeated"


def test_what_was_considered_is_carried_over(study: Study, dead: str) -> None:
    trial = taken(study, dead, 9)
    assert trial is not None
    trial.set_user_attr("tried", [1, 2])
    suggest(trial, SPACE)
    Sweeper(study, SPACE, carry=("tried",)).sweep()
    assert study.get_trials()[1].user_attrs["tried"] == [1, 2]


def test_a_trial_without_parameters_leaves_nothing_to_repeat(
    study: Study, states: States, dead: str
) -> None:
    assert taken(study, dead, 9) is not None
    assert Sweeper(study, SPACE).sweep() == 1
    assert states(study) == ["FAIL"]


def test_a_draw_cut_short_leaves_nothing_to_repeat(study: Study, states: States, dead: str) -> None:
    begun(study, dead)
    assert Sweeper(study, {*SPACE, "rate.b"}).sweep() == 1
    assert states(study) == ["FAIL"]


def test_an_error_is_not_repeated(study: Study, states: States, dead: str) -> None:
    number = begun(study, dead)
    trial = study.get_trials()[number]
    study._storage.set_trial_user_attr(trial._trial_id, ERROR, "ValueError: no")
    study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
    assert Sweeper(study, SPACE).sweep() == 0
    assert states(study) == ["FAIL"]


def test_killed_between_taking_and_signing(study: Study, states: States, dead: str) -> None:
    study.enqueue_trial({"rate.a": 0.5}, user_attrs={ORIGIN: "warm/0"})
    queued = study.get_trials()[0]
    study._storage.set_trial_user_attr(queued._trial_id, INTENT + dead, 1)
    study._storage.set_trial_state_values(queued._trial_id, state=TrialState.RUNNING)
    assert Sweeper(study, SPACE).sweep() == 1
    assert states(study) == ["FAIL", "WAITING"]


def test_silence_elsewhere_is_death_after_the_grace(study: Study, dead: str) -> None:
    away = begun(study, "elsewhere/7/abc")
    clock = Clock()
    sweeper = Sweeper(study, SPACE, grace=60, clock=clock)
    if isinstance(study._storage, InMemoryStorage):
        assert sweeper.sweep() == 1, "nobody elsewhere can work in this memory"
        return
    trial = study.get_trials()[away]
    assert sweeper.sweep() == 0
    clock.now += 59
    assert sweeper.sweep() == 0
    study._storage.set_trial_user_attr(trial._trial_id, PULSE, 1)
    clock.now += 59
    assert sweeper.sweep() == 0
    clock.now += 59
    assert sweeper.sweep() == 0
    clock.now += 2
    assert sweeper.sweep() == 1 and numbers(study, TrialState.FAIL) == [away]
    assert study.get_trials()[away].user_attrs[WORKER] == "elsewhere/7/abc"
