"""Signs of life: while a trial runs, a thread says so in the storage every few seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.storages._heartbeat import BaseHeartbeat

from autoprune.errors import StudyError
from autoprune.storing.marks import PULSE

INTERVAL = 15.0
"""Seconds between two signs."""


@contextmanager
def pulse(storage: BaseStorage, trial_id: int, interval: float = INTERVAL) -> Iterator[None]:
    """Give signs of life for the trial within the block."""
    if not has_pulses(storage):
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_beat, args=(storage, trial_id, interval, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def has_pulses(storage: BaseStorage) -> bool:
    """Not in memory, nor in SQLite, which serves a single process and does not like two writers."""
    if isinstance(storage, BaseHeartbeat):
        return storage.get_heartbeat_interval() is not None
    return not isinstance(storage, InMemoryStorage)


def _beat(storage: BaseStorage, trial_id: int, interval: float, over: threading.Event) -> None:
    count = 0
    while True:
        try:
            _sign(storage, trial_id, count)
        except (OptunaError, StudyError, RuntimeError):
            # The trial was finished, or taken away, in this very moment; or the worker will hear it itself.
            return
        count += 1
        if over.wait(interval):
            return


def _sign(storage: BaseStorage, trial_id: int, count: int) -> None:
    if isinstance(storage, BaseHeartbeat):
        # For what else reads the database; it says nothing of trials that were never given a heartbeat.
        storage.record_heartbeat(trial_id)
    if count > 0:
        # Signed with its worker's name just now: a first pulse says nothing new.
        storage.set_trial_user_attr(trial_id, PULSE, count)
