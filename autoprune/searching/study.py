"""The Optuna study: opened or created, checked against what it was made for, and read back as a front."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import optuna
from optuna import Study
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autoprune.config import differences, mask_url
from autoprune.errors import StudyError
from autoprune.searching import attributes as attr
from autoprune.searching.front import Dense, Front, Point
from autoprune.searching.metric_scale import ACCURACY, MetricScale
from autoprune.searching.space import rates_of
from autoprune.searching.stored import (
    Described,
    Finished,
    read_dense,
    read_latency_bound,
    read_metric,
    read_objective,
    read_trial,
    read_widths,
)
from autoprune.storing.claims import Claims
from autoprune.storing.experimental import quiet, without_notes
from autoprune.storing.reading import read_stored, without_collector
from autoprune.storing.storages import open_storage

if TYPE_CHECKING:
    from torch import Tensor

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)


def open_study(
    storage: BaseStorage,
    name: str,
    *,
    identity: Mapping[str, Any],
    dense: Callable[[], Dense],
    dense_widths: Mapping[str, int],
    versions: Mapping[str, str],
    frozen: Sequence[Mapping[str, Any]] = (),
    say: Callable[[str], None],
    metric: MetricScale = ACCURACY,
    timed_on: Mapping[str, Any] | None = None,
) -> Study:
    """The study of this name, created if absent; StudyError naming the fields if made for another search.

    Of several searches that begin it at once, one describes it, and the others compare with that; `say`
    tells the user that they wait.
    """
    study = _loaded_or_created(storage, name)

    def described() -> bool:
        return attr.IDENTITY in study.user_attrs

    if not described():
        if study.get_trials(deepcopy=False):
            raise StudyError(f"study '{name}' was not made by autoprune; choose another name or storage.")
        what = f"the description of study '{name}'"
        with Claims(study, say).turn(attr.IDENTITY, what, described) as mine:
            # Another may have finished just before the claim.
            if mine and not described():
                if timed_on is not None:
                    study.set_user_attr(attr.TIMED_ON, dict(timed_on))
                _describe(study, identity, dense(), dense_widths, versions, frozen, metric)
    check_ours(study)
    known = study.user_attrs[attr.IDENTITY]
    changed = differences(*_comparable(known, identity))
    if changed:
        raise StudyError(
            f"study '{name}' was made for another search ({'; '.join(changed)}). "
            "Restore these values, or choose another name or storage."
        )
    name_metrics(study)
    return study


def _comparable(
    stored: Mapping[str, Any], current: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Both without what a study of the time before did not know, or one of today knows better."""
    left_out = {name for name in (attr.INPUTS, attr.LABELS, attr.TRAINING_DATA) if name not in stored}
    if attr.INPUTS in stored and attr.INPUTS in current:
        left_out.add(attr.DATA)
    kept = [{n: v for n, v in each.items() if n not in left_out} for each in (stored, current)]
    # Left out where it is the usual one.
    before, after = ({"objective": "macs", **each} for each in kept)
    return before, after


def name_metrics(study: Study) -> None:
    """Give the study's values the names that dashboards show: the second is a share of the dense cost."""
    names = [read_metric(study).name, f"{read_objective(study)}_ratio"]
    if study.metric_names != names:
        with quiet():
            study.set_metric_names(names)


def _loaded_or_created(storage: BaseStorage, name: str) -> Study:
    try:
        return optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        # Another worker may have been faster.
        with without_notes():
            return optuna.create_study(
                storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True
            )


def _describe(
    study: Study,
    identity: Mapping[str, Any],
    dense: Dense,
    dense_widths: Mapping[str, int],
    versions: Mapping[str, str],
    frozen: Sequence[Mapping[str, Any]],
    metric: MetricScale,
) -> None:
    study.set_user_attr(attr.SCHEMA_VERSION, attr.SCHEMA)
    study.set_user_attr(attr.VERSIONS, dict(versions))
    study.set_user_attr(attr.DENSE, {n: v for n, v in vars(dense).items() if v is not None})
    study.set_user_attr(attr.DENSE_WIDTHS, dict(dense_widths))
    study.set_user_attr(attr.FROZEN, [dict(group) for group in frozen])
    if metric != ACCURACY:
        study.set_user_attr(attr.METRIC, asdict(metric))
    # Last: its presence says that the description is complete.
    study.set_user_attr(attr.IDENTITY, dict(identity))


def check_schema(study: Described) -> None:
    """StudyError for a study that another version of autoprune wrote in a way this one cannot read."""
    schema = study.user_attrs.get(attr.SCHEMA_VERSION)
    if schema != attr.SCHEMA:
        raise StudyError(
            f"study '{study.study_name}' has schema {schema}, this version of autoprune reads {attr.SCHEMA}; "
            "use the version that made it."
        )


def check_ours(study: Described) -> None:
    """StudyError for a study that autoprune did not make, or not completely, or in another version."""
    if not isinstance(study.user_attrs.get(attr.IDENTITY), Mapping):
        raise StudyError(f"study '{study.study_name}' was not made by autoprune, or has not begun.")
    check_schema(study)


def finished(study: Study) -> list[FrozenTrial]:
    """Completed trials in order of their numbers."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def read_front(storage: str, name: str) -> Front:
    """The front of a stored study, from storage alone; StudyError when it is absent or not ours."""
    with without_collector():
        study = read_stored(storage, name)
        if study is None:
            return front_of(stored_study(storage, name))
        check_ours(study)
        dense, widths = read_dense(study), read_widths(study)
        points = [point_of(trial, dense, widths) for trial in study.finished]
        return Front(
            name, dense, points, read_metric(study), read_objective(study), read_latency_bound(study)
        )


def stored_study(storage: str, name: str) -> Study:
    """A study that exists, whoever made it; StudyError naming those that do when it does not."""
    opened = open_storage(storage, create=False)
    try:
        return optuna.load_study(storage=opened, study_name=name)
    except KeyError:
        names = ", ".join(optuna.get_all_study_names(opened)) or "none"
        raise StudyError(
            f"storage '{mask_url(storage)}' holds no study '{name}'; it holds: {names}."
        ) from None


_points: WeakKeyDictionary[Study, dict[int, Point]] = WeakKeyDictionary()
"""What was read before, by study and number: a finished trial never changes, and a search asks after each."""


def front_of(study: Study) -> Front:
    """Everything that the study's finished trials say."""
    check_ours(study)
    dense, widths = read_dense(study), read_widths(study)
    known, trials = _points.setdefault(study, {}), finished(study)
    for trial in trials:
        if trial.number not in known:
            known[trial.number] = point_of(trial, dense, widths)
    points = [known[trial.number] for trial in trials]
    objective, bound = read_objective(study), read_latency_bound(study)
    return Front(study.study_name, dense, points, read_metric(study), objective, bound)


def point_of(trial: Finished, dense: Dense, dense_widths: Mapping[str, int]) -> Point:
    """What a finished trial says; StudyError where it is damaged."""
    stored = read_trial(trial, dense_widths)
    assert trial.values is not None, "read_trial refuses a trial without"
    timed = stored.latency
    return Point(
        trial=trial.number,
        macs=stored.costs.macs,
        macs_ratio=stored.costs.macs / dense.macs,
        params=stored.costs.params,
        params_ratio=stored.costs.params / dense.params,
        bytes=stored.costs.bytes,
        accuracy=trial.values[0],
        accuracy_before_reconstruction=stored.accuracy_before_reconstruction,
        output_error=stored.output_error,
        widths=stored.widths,
        rates=rates_of(stored.widths, dense_widths),
        batch_removal=stored.batch_removal,
        criterion=stored.criterion,
        kept=_Masks(stored.kept, stored.widths),
        proxies=stored.proxies,
        latency_ms=None if timed is None else timed.ms,
        latency_spread_ms=None if timed is None else timed.spread_ms,
        latency_predicted_ms=None if timed is None else timed.predicted_ms,
    )


class _Masks(Mapping[str, "Tensor"]):
    """Kept channels, unpacked only when they are asked for: a front table needs none."""

    def __init__(self, packed: Mapping[str, str], widths: Mapping[str, int]) -> None:
        self._packed, self._widths = packed, widths

    def __getitem__(self, name: str) -> Tensor:
        kept = attr.unpack(self._packed[name])
        if len(kept) != self._widths[name]:
            raise StudyError(
                f"a trial of the study is damaged: it keeps {self._widths[name]} channels of group '{name}', "
                f"but its mask says {len(kept)}."
            )
        return kept

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)
