"""The Optuna study: opened or created, checked against what it was made for, and read back as a front."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optuna
from optuna import Study
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from torch import Tensor

from autoprune.config import differences, mask_url
from autoprune.errors import StudyError
from autoprune.searching import attributes as attr
from autoprune.searching.front import Dense, Front, Point
from autoprune.searching.space import rates_of
from autoprune.storing.storages import open_storage

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
METRICS = ["accuracy", "macs_ratio"]


def open_study(
    storage: BaseStorage,
    name: str,
    *,
    identity: Mapping[str, Any],
    dense: Callable[[], Dense],
    dense_widths: Mapping[str, int],
    versions: Mapping[str, str],
) -> Study:
    """The study of this name, created if absent; StudyError naming the fields if made for another search."""
    study = _loaded_or_created(storage, name)
    stored = study.user_attrs
    if attr.IDENTITY not in stored:
        if study.get_trials(deepcopy=False):
            raise StudyError(f"study '{name}' was not made by autoprune; choose another name or storage.")
        _describe(study, identity, dense(), dense_widths, versions)
        return study
    check_schema(study)
    changed = differences(stored[attr.IDENTITY], identity)
    if changed:
        raise StudyError(
            f"study '{name}' was made for another search ({'; '.join(changed)}). "
            "Restore these values, or choose another name or storage."
        )
    return study


def _loaded_or_created(storage: BaseStorage, name: str) -> Study:
    try:
        return optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        # Another worker may have been faster.
        study = optuna.create_study(
            storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(METRICS)
    return study


def _describe(
    study: Study,
    identity: Mapping[str, Any],
    dense: Dense,
    dense_widths: Mapping[str, int],
    versions: Mapping[str, str],
) -> None:
    study.set_user_attr(attr.SCHEMA_VERSION, attr.SCHEMA)
    study.set_user_attr(attr.VERSIONS, dict(versions))
    study.set_user_attr(attr.DENSE, vars(dense))
    study.set_user_attr(attr.DENSE_WIDTHS, dict(dense_widths))
    # Last: its presence says that the description is complete.
    study.set_user_attr(attr.IDENTITY, dict(identity))


def check_schema(study: Study) -> None:
    """StudyError for a study that another version of autoprune wrote in a way this one cannot read."""
    schema = study.user_attrs.get(attr.SCHEMA_VERSION)
    if schema != attr.SCHEMA:
        raise StudyError(
            f"study '{study.study_name}' has schema {schema}, this version of autoprune reads {attr.SCHEMA}; "
            "use the version that made it."
        )


def finished(study: Study) -> list[FrozenTrial]:
    """Completed trials in order of their numbers."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def read_front(storage: str, name: str) -> Front:
    """The front of a stored study, from storage alone; StudyError when it is absent or not ours."""
    opened = open_storage(storage, create=False)
    try:
        study = optuna.load_study(storage=opened, study_name=name)
    except KeyError:
        names = ", ".join(optuna.get_all_study_names(opened)) or "none"
        raise StudyError(
            f"storage '{mask_url(storage)}' holds no study '{name}'; it holds: {names}."
        ) from None
    return front_of(study)


def front_of(study: Study) -> Front:
    """Everything that the study's finished trials say."""
    if attr.IDENTITY not in study.user_attrs:
        raise StudyError(f"study '{study.study_name}' was not made by autoprune, or has not begun.")
    check_schema(study)
    dense = Dense(**study.user_attrs[attr.DENSE])
    widths = study.user_attrs[attr.DENSE_WIDTHS]
    return Front(study.study_name, dense, [point_of(trial, dense, widths) for trial in finished(study)])


def point_of(trial: FrozenTrial, dense: Dense, dense_widths: Mapping[str, int]) -> Point:
    stored = trial.user_attrs
    try:
        costs, widths = stored[attr.COSTS], stored[attr.WIDTHS]
        return Point(
            trial=trial.number,
            macs=costs["macs"],
            macs_ratio=costs["macs"] / dense.macs,
            params=costs["params"],
            params_ratio=costs["params"] / dense.params,
            bytes=costs["bytes"],
            accuracy=trial.values[0],
            accuracy_before_reconstruction=stored[attr.BEFORE],
            output_error=stored[attr.OUTPUT_ERROR],
            widths=widths,
            rates=rates_of(widths, dense_widths),
            batch_removal=stored[attr.BATCH],
            criterion=stored[attr.CRITERION],
            kept=_Masks(stored[attr.KEPT]),
            proxies=stored.get(attr.PROXIES, {}),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise StudyError(f"trial {trial.number} of the study is damaged: {error!r} is missing.") from error


class _Masks(Mapping[str, Tensor]):
    """Kept channels, unpacked only when they are asked for: a front table needs none."""

    def __init__(self, packed: Mapping[str, str]) -> None:
        self._packed = packed

    def __getitem__(self, name: str) -> Tensor:
        return attr.unpack(self._packed[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)
