"""Queued candidates are taken first and once; never more trials than wanted are kept."""

from __future__ import annotations

import threading

import optuna
import pytest
from optuna import Study
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from autoprune.storing.marks import ORIGIN, WORKER
from autoprune.storing.queueing import missing, queue_once, rank, suggest, take
from autoprune.storing.workers import new_worker
from tests.storing.conftest import SPACE, States, numbers, taken

QUEUE = [{"rate.a": 0.1}, {"rate.a": 0.2}, {"rate.a": 0.3}]


def test_the_queue_is_taken_in_order_and_signed(study: Study) -> None:
    queue_once(study, QUEUE)
    with new_worker() as worker:
        for expected in QUEUE:
            trial = taken(study, worker, 10)
            assert trial is not None
            suggest(trial, SPACE)
            assert trial.params == expected and trial.user_attrs[WORKER] == worker
        later = taken(study, worker, 10)
        assert later is not None and later.number == 3 and later.user_attrs[WORKER] == worker


def test_a_start_cut_short_is_completed_and_never_repeated(study: Study, states: States) -> None:
    study.enqueue_trial(QUEUE[0], user_attrs={ORIGIN: "warm/0"})
    for _ in range(2):
        queue_once(study, QUEUE)
    assert states(study) == ["WAITING"] * 3
    assert [trial.user_attrs[ORIGIN] for trial in study.get_trials()] == ["warm/0", "warm/1", "warm/2"]


def test_a_study_of_an_earlier_version_gets_no_second_start(study: Study, states: States) -> None:
    study.add_trial(optuna.create_trial(values=[0.5, 0.5]))
    queue_once(study, QUEUE)
    assert states(study) == ["COMPLETE"]


def test_two_workers_that_queued_the_same_evaluate_it_once(study: Study, states: States) -> None:
    for _ in range(2):
        for number, parameters in enumerate(QUEUE):
            study.enqueue_trial(parameters, user_attrs={ORIGIN: f"warm/{number}"})
    with new_worker() as worker:
        found = [taken(study, worker, 100) for _ in range(6)]
    assert [trial is not None for trial in found] == [True] * 3 + [False] * 3
    assert states(study) == ["RUNNING"] * 3 + ["FAIL"] * 3


def test_what_is_not_needed_is_withdrawn_and_stays_in_the_queue(study: Study, states: States) -> None:
    queue_once(study, QUEUE)
    with new_worker() as worker:
        assert taken(study, worker, 1) is not None
        assert missing(study, 1) == (1, 0)
        assert taken(study, worker, 1) is None
        assert missing(study, 3) == (3, 2)
        trial = taken(study, worker, 3)
        assert trial is not None
        suggest(trial, SPACE)
        assert trial.params == QUEUE[2]
        again = taken(study, worker, 3)
        assert again is not None
        suggest(again, SPACE)
        assert again.params == QUEUE[1], "the one that was withdrawn"


@pytest.mark.parametrize("total", [1, 7, 20])
def test_many_at_once_finish_exactly_the_total(study: Study, total: int) -> None:
    queue_once(study, QUEUE)

    def work() -> None:
        own = optuna.load_study(study_name="study", storage=study._storage, sampler=RandomSampler())
        with new_worker() as worker:
            while missing(own, total)[0] > 0:
                if missing(own, total)[1] <= 0 or (trial := taken(own, worker, total)) is None:
                    continue
                suggest(trial, SPACE)
                own.tell(trial, [0.5, 0.5])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(done) == total and not numbers(study, TrialState.RUNNING)
    values = [trial.params["rate.a"] for trial in done]
    assert len(set(values)) == total


def test_the_rank_of_a_lost_trial_comes_again(study: Study) -> None:
    with new_worker() as worker:
        first, second, third = (take(study, worker, 100) for _ in range(3))
        assert [rank(study, trial) for trial in (first, second, third) if trial is not None] == [0, 1, 2]
        assert third is not None
        study._storage.set_trial_state_values(third, state=TrialState.FAIL)
        again = take(study, worker, 100)
        assert again is not None and rank(study, again) == 2
