"""Dead workers: their trials are found, marked as failed, and their candidates queued again once.

On one host a worker is dead when its process is gone. On others it is held dead when its signs of life
stop: heartbeats, which SQL servers judge by their own clock, or a pulse that the sweeper waits to see change,
by its own clock, for the clocks of two hosts may differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, TrialState

from autoprune.storing.marks import BROKEN, ERROR, INTENT, LOST, ORIGIN, PULSE, WITHDRAWN, WORKER
from autoprune.storing.patience import troubled
from autoprune.storing.pulses import has_pulses
from autoprune.storing.queueing import parameters_of
from autoprune.storing.workers import is_gone, lives_here

GRACE = 60.0
"""Seconds without a sign of life after which a worker on another host is held dead."""


class Sweeper:
    """Watches the running trials of one study.

    `parameters` are the names of all that a candidate has: a draw that was cut short leaves nothing to
    repeat. `carry` names attributes that a repeated trial inherits. `grace` is in seconds of `clock`.
    """

    def __init__(
        self,
        study: Study,
        parameters: Collection[str],
        *,
        carry: Collection[str] = (),
        grace: float = GRACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study, self.parameters, self.carry = study, parameters, carry
        self.grace, self.clock = grace, clock
        self._seen: dict[int, tuple[Any, float]] = {}

    def sweep(self) -> int:
        """Fail the trials of dead workers and queue their candidates again; how many were failed."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        silent = _without_heartbeat(self.study)
        failed = sum(self._fail(trial, silent) for trial in running)
        self._queue_again()
        return failed

    def _fail(self, trial: FrozenTrial, silent: Collection[int]) -> bool:
        reason = self._death(trial, silent)
        if reason is None:
            return False
        storage = self.study._storage
        try:
            storage.set_trial_user_attr(trial._trial_id, LOST, reason)
            storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
        except UpdateFinishedTrialError:
            # Another sweeper, or the worker itself, was faster.
            return False
        return True

    def _death(self, trial: FrozenTrial, silent: Collection[int]) -> str | None:
        workers = _workers(trial.user_attrs)
        if workers and all(is_gone(worker) for worker in workers):
            return f"the process of worker {workers[0]} is gone"
        if not has_pulses(self.study._storage):
            # Memory and SQLite serve one host: whoever is not here is nowhere.
            return None if any(map(lives_here, workers)) else "no process of this host works on it"
        if trial._trial_id in silent or self._is_silent(trial):
            return f"worker {', '.join(workers) or 'unknown'} gave no sign of life"
        return None

    def _is_silent(self, trial: FrozenTrial) -> bool:
        if troubled(self.study._storage, self.grace):
            # Nobody could give a sign of life.
            self._seen.clear()
        sign = (trial.user_attrs.get(PULSE), len(trial.user_attrs))
        known, since = self._seen.get(trial.number, (None, 0.0))
        if sign != known:
            self._seen[trial.number] = (sign, self.clock())
            return False
        return self.clock() - since >= self.grace

    def _queue_again(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        origins = {trial.user_attrs.get(ORIGIN) for trial in trials}
        for trial in trials:
            if self._is_repeatable(trial) and again(trial) not in origins:
                inherited = {name: trial.user_attrs[name] for name in self.carry if name in trial.user_attrs}
                self.study.enqueue_trial(parameters_of(trial), user_attrs={ORIGIN: again(trial), **inherited})

    def _is_repeatable(self, trial: FrozenTrial) -> bool:
        marks = trial.user_attrs
        if (
            trial.state is not TrialState.FAIL
            or LOST not in marks
            or {ERROR, BROKEN, WITHDRAWN} & marks.keys()
        ):
            return False
        once = str(marks.get(ORIGIN, "")).startswith("again/")
        return not once and parameters_of(trial).keys() >= set(self.parameters)


def again(trial: FrozenTrial) -> str:
    """Origin of the trial that repeats this one."""
    return f"again/{trial.number}"


def _workers(marks: Mapping[str, Any]) -> list[str]:
    if WORKER in marks:
        return [str(marks[WORKER])]
    return [name.removeprefix(INTENT) for name in marks if name.startswith(INTENT)]


def _without_heartbeat(study: Study) -> Collection[int]:
    """Ids of running trials whose heartbeat stopped, where the storage watches heartbeats."""
    storage = study._storage
    if not isinstance(storage, BaseHeartbeat) or storage.get_heartbeat_interval() is None:
        return ()
    return set(storage._get_stale_trial_ids(study._study_id))
