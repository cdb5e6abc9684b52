"""How far the studies of a storage are, from the storage alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna import Study
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from autoprune.errors import StudyError
from autoprune.searching import attributes as attr
from autoprune.searching.metric_scale import ACCURACY, MetricScale
from autoprune.searching.stored import (
    read_dense,
    read_latency_bound,
    read_metric,
    read_trial,
    read_widths,
)
from autoprune.storing.marks import LOST, WITHDRAWN, WORKER
from autoprune.storing.workers import is_gone

HALF = 0.5


@dataclass(frozen=True)
class Best:
    """The most accurate finished trial with at most half of the MACs; of all where there is none."""

    trial: int
    accuracy: float
    macs_ratio: float


@dataclass(frozen=True, kw_only=True)
class Overview:
    """One study. `failed` counts trials that ended in an error, and the `lost` ones of dead workers.

    `workers` are those that a trial is running on, without those known to be dead. `best` and
    `dense_accuracy` are None where the study was not made by autoprune, or has not begun.
    """

    study: str
    made_by_autoprune: bool
    finished: int
    running: int
    waiting: int
    failed: int
    lost: int
    best: Best | None
    dense_accuracy: float | None
    metric: MetricScale
    workers: tuple[str, ...]
    last_activity: datetime | None

    def to_json(self) -> dict[str, Any]:
        """What `studies --json` prints for one study; the time in ISO 8601 with its offset."""
        time = self.last_activity
        return {
            **asdict(self),
            "metric": self.metric.name,
            "workers": list(self.workers),
            "last_activity": None if time is None else time.isoformat(timespec="seconds"),
        }


def overviews(storage: BaseStorage) -> list[Overview]:
    """All studies, in the order of their names."""
    found: list[Overview] = []
    for name in sorted(optuna.get_all_study_names(storage)):
        try:
            found.append(overview(optuna.load_study(storage=storage, study_name=name)))
        except KeyError:
            # Deleted in this moment.
            continue
    return found


def overview(study: Study) -> Overview:
    trials = study.get_trials(deepcopy=False)
    failed = [t for t in trials if t.state is TrialState.FAIL and WITHDRAWN not in t.user_attrs]
    # The next search marks them so.
    dead = [t for t in trials if t.state is TrialState.RUNNING and is_gone(str(t.user_attrs.get(WORKER)))]
    states = Counter(trial.state for trial in trials)
    ours = attr.IDENTITY in study.user_attrs
    return Overview(
        study=study.study_name,
        made_by_autoprune=ours,
        finished=states[TrialState.COMPLETE],
        running=states[TrialState.RUNNING] - len(dead),
        waiting=states[TrialState.WAITING],
        failed=len(failed) + len(dead),
        lost=sum(LOST in trial.user_attrs for trial in failed) + len(dead),
        best=_best(study, trials) if ours else None,
        dense_accuracy=_dense_accuracy(study) if ours else None,
        metric=_metric(study),
        workers=tuple(sorted(_workers(trials))),
        last_activity=_last_activity(trials),
    )


def _best(study: Study, trials: Sequence[FrozenTrial]) -> Best | None:
    """From the trials' values alone, which are cheap to read: accuracy and the ratio of MACs.

    Where the front runs over another cost, the ratio is that of their stored MACs. Trials above the study's
    budget of latency are left out, as from its front.
    """
    ratio, slow = _ratio_of_macs(study), _above_latency(study)
    measured = [
        Best(trial.number, trial.values[0], ratio(trial))
        for trial in trials
        if trial.state is TrialState.COMPLETE
        and len(trial.values) == 2
        and all(map(math.isfinite, trial.values))
        and not slow(trial)
    ]
    half = [best for best in measured if best.macs_ratio <= HALF]
    return max(half or measured, key=lambda best: (best.accuracy, -best.macs_ratio), default=None)


def _above_latency(study: Study) -> Callable[[FrozenTrial], bool]:
    try:
        bound, widths = read_latency_bound(study), read_widths(study)
    except (AttributeError, StudyError):
        return lambda trial: False

    def above(trial: FrozenTrial) -> bool:
        try:
            timed = read_trial(trial, widths).latency
        except StudyError:
            return False
        return timed is not None and bound is not None and timed.ms + timed.spread_ms > bound

    return above if bound is not None else lambda trial: False


def _ratio_of_macs(study: Study) -> Callable[[FrozenTrial], float]:
    identity = study.user_attrs[attr.IDENTITY]
    if not isinstance(identity, Mapping) or identity.get("objective", "macs") == "macs":
        return lambda trial: trial.values[1]
    try:
        widths, dense = read_widths(study), read_dense(study).macs
    except StudyError:
        return lambda trial: math.nan

    def ratio(trial: FrozenTrial) -> float:
        try:
            return read_trial(trial, widths).costs.macs / dense
        except StudyError:
            return math.nan

    return ratio


def _dense_accuracy(study: Study) -> float | None:
    try:
        return read_dense(study).accuracy
    except StudyError:
        # A list of studies should not fail for the sake of one of them.
        return None


def _metric(study: Study) -> MetricScale:
    try:
        return read_metric(study)
    except StudyError:
        return ACCURACY


def _workers(trials: Sequence[FrozenTrial]) -> set[str]:
    running = (trial for trial in trials if trial.state is TrialState.RUNNING)
    names = {str(trial.user_attrs[WORKER]) for trial in running if WORKER in trial.user_attrs}
    return {name for name in names if not is_gone(name)}


def _last_activity(trials: Sequence[FrozenTrial]) -> datetime | None:
    times = [time for t in trials for time in (t.datetime_start, t.datetime_complete) if time is not None]
    # Optuna stores local time and does not say so.
    return max(times).astimezone() if times else None
