"""The Optuna study: opened or created, checked against what it was made for, and read back as a front."""

from __future__ import annotations

import json
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from torch import Tensor

from autoprune.config import differences, mask_url
from autoprune.errors import StudyError
from autoprune.searching import attributes as attr
from autoprune.searching.front import Dense, Front, Point
from autoprune.searching.space import rates_of

optuna.logging.set_verbosity(optuna.logging.WARNING)

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
METRICS = ["accuracy", "macs_ratio"]


def open_storage(storage: str | None, *, create: bool = True) -> BaseStorage:
    """A path is a journal file, anything with `://` an Optuna URL, None the memory of this process.

    Raises StudyError when it cannot be opened or, for a file, written.
    """
    if storage is None:
        return InMemoryStorage()
    try:
        opened = _open(storage, create)
        # The first look into it: what is no journal, or needs a password, is known at once.
        optuna.get_all_study_names(opened)
        return opened
    except StudyError:
        raise
    except Exception as error:
        reason = mask_url(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        raise StudyError(f"storage '{mask_url(storage)}' cannot be opened: {reason}") from error


def _open(storage: str, create: bool) -> BaseStorage:
    if "://" not in storage:
        return JournalStorage(JournalFileBackend(str(_journal(Path(storage), create))))
    url = make_url(storage)
    if not create and url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        _existing(Path(str(url.database)))
    return optuna.storages.get_storage(storage)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise StudyError(
            f"storage '{path}' does not exist; run 'autoprune search' first, or check --storage."
        )
    return path


def _journal(path: Path, create: bool) -> Path:
    if path.is_dir():
        raise StudyError(f"storage '{path}' should be a journal file, but it is a folder; name a file in it.")
    _check_journal(path)
    if not create:
        return _existing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a"):
            pass
    except OSError as error:
        raise StudyError(
            f"storage '{path}' cannot be written: {error.strerror}; choose another path."
        ) from error
    return path


def _check_journal(path: Path) -> None:
    """Optuna would append to any file, and could then read neither its own lines nor the user's."""
    try:
        with path.open("rb") as file:
            line = file.readline()
        if line and "op_code" not in json.loads(line):
            raise ValueError
    except FileNotFoundError:
        return
    except (ValueError, TypeError):
        raise StudyError(f"storage '{path}' is a file, but no journal; choose another path.") from None
    except OSError as error:
        raise StudyError(
            f"storage '{path}' cannot be read: {error.strerror}; choose another path."
        ) from error


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


def worker_name() -> str:
    """Who runs a trial: host and process."""
    return f"{socket.gethostname()}/{os.getpid()}"


def sweep_dead(study: Study) -> int:
    """Mark trials of dead processes of this host as failed and queue their candidates again; how many."""
    dead = [t for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if _is_dead(t)]
    for trial in dead:
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(dict(trial.params))
    return len(dead)


def _is_dead(trial: FrozenTrial) -> bool:
    host, _, process = str(trial.user_attrs.get(attr.WORKER, "")).rpartition("/")
    if not process.isdigit():
        # It died before it could sign, or was never ours: nobody is known to work on it.
        return True
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(process) == os.getpid()


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
