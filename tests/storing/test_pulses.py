from __future__ import annotations

import threading
import time

from optuna import Study
from optuna.storages import InMemoryStorage

from autoprune.storing.marks import PULSE
from autoprune.storing.pulses import has_pulses, pulse
from autoprune.storing.storages import open_storage


def beats(study: Study) -> int:
    return int(study.get_trials(deepcopy=False)[0].user_attrs.get(PULSE, 0))


def test_pulses_go_on_while_the_trial_runs(study: Study) -> None:
    trial = study.ask()
    if isinstance(study._storage, InMemoryStorage):
        assert not has_pulses(study._storage)
        return
    end = time.monotonic() + 20
    with pulse(study._storage, trial._trial_id, interval=0.01):
        while beats(study) < 3 and time.monotonic() < end:
            time.sleep(0.01)
    last = beats(study)
    assert last >= 3
    time.sleep(0.05)
    assert beats(study) == last, "the thread has ended"


def test_a_trial_that_ends_meanwhile_ends_the_thread(study: Study) -> None:
    trial, before = study.ask(), set(threading.enumerate())
    end = time.monotonic() + 20
    with pulse(study._storage, trial._trial_id, interval=0.01):
        beating = set(threading.enumerate()) - before
        assert bool(beating) == has_pulses(study._storage)
        study.tell(trial, [1.0, 1.0])
        while any(thread.is_alive() for thread in beating) and time.monotonic() < end:
            time.sleep(0.01)
        assert not any(thread.is_alive() for thread in beating)


def test_sqlite_has_one_process_and_no_pulses() -> None:
    assert not has_pulses(open_storage("sqlite://"))
