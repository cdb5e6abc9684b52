"""A stored study read at one go, for tables: its description and its finished trials, without parameters.

The same is read as through Optuna, which makes objects of everything, but several times faster where there
are thousands of trials. Journal files and SQL databases can be read so.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.storages.journal._storage import JournalOperation as Operation
from optuna.trial import TrialState

from autoprune.errors import StudyError
from autoprune.storing.journal import JournalFile
from autoprune.storing.patient import PatientStorage
from autoprune.storing.storages import existing_journal, is_database, open_storage

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

Record = Mapping[str, Any]


@dataclass
class StoredTrial:
    """A trial's number, its values (None until it is finished), and its attributes."""

    number: int
    values: list[float] | None
    user_attrs: dict[str, Any]
    state: TrialState = TrialState.COMPLETE


@dataclass
class StoredStudy:
    """A study's name and attributes, and its finished trials in order of their numbers."""

    study_name: str
    user_attrs: dict[str, Any]
    finished: list[StoredTrial]


def read_stored(storage: str, name: str) -> StoredStudy | None:
    """The study of this name; None where it is absent, or the storage has to be read in another way.

    Raises StudyError where the storage cannot be opened or is damaged.
    """
    if "://" not in storage:
        return read_journal(existing_journal(storage), name)
    if not is_database(storage):
        return None
    opened = open_storage(storage, create=False)
    assert isinstance(opened, PatientStorage)
    engine = opened.inner._backend.engine  # type: ignore[attr-defined]

    def read(again: bool) -> StoredStudy | None:
        with engine.connect() as connection:
            return read_database(connection, name)

    return opened.patience.run(read)


@contextmanager
def without_collector() -> Iterator[None]:
    """Nothing of a study that is read is garbage, and looking for it takes longer than the reading."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


UNREAD = frozenset(
    {
        Operation.SET_STUDY_SYSTEM_ATTR,
        Operation.SET_TRIAL_PARAM,
        Operation.SET_TRIAL_INTERMEDIATE_VALUE,
        Operation.SET_TRIAL_SYSTEM_ATTR,
    }
)
"""Operations on what is not wanted here: half of a journal."""


def read_journal(file: JournalFile, name: str) -> StoredStudy | None:
    try:
        return studies_of(file.read_all_but(UNREAD)).get(name)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StudyError(
            f"storage '{file.path}' is damaged: a record is not as Optuna writes it ({error!r}); "
            "restore the file from a copy."
        ) from error


def studies_of(records: Iterable[Record]) -> dict[str, StoredStudy]:
    """The studies, by name, that a journal's records come to by the rules of Optuna's JournalStorage."""
    replay = _Replay()
    for record in records:
        if (operation := replay.operations.get(record["op_code"])) is not None:
            operation(record)
    for study_id, study in replay.studies.items():
        trials = replay.trials_of[study_id]
        study.finished = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return {study.study_name: study for study in replay.studies.values()}


class _Replay:
    def __init__(self) -> None:
        self.studies: dict[int, StoredStudy] = {}
        self.trials_of: dict[int, list[StoredTrial]] = {}
        self._trials: list[StoredTrial] = []
        self.operations: dict[int, Callable[[Record], None]] = {
            Operation.CREATE_STUDY: self._create_study,
            Operation.DELETE_STUDY: self._delete_study,
            Operation.SET_STUDY_USER_ATTR: self._describe,
            Operation.CREATE_TRIAL: self._create_trial,
            Operation.SET_TRIAL_STATE_VALUES: self._set_state,
            Operation.SET_TRIAL_USER_ATTR: self._mark,
        }

    def _create_study(self, record: Record) -> None:
        if all(study.study_name != record["study_name"] for study in self.studies.values()):
            # Numbers of deleted studies, which keep their trials here, are not given again.
            number = len(self.trials_of)
            self.studies[number] = StoredStudy(record["study_name"], {}, [])
            self.trials_of[number] = []

    def _delete_study(self, record: Record) -> None:
        self.studies.pop(record["study_id"], None)

    def _describe(self, record: Record) -> None:
        if (study := self.studies.get(record["study_id"])) is not None:
            study.user_attrs.update(record["user_attr"])

    def _create_trial(self, record: Record) -> None:
        if record["study_id"] not in self.studies:
            return
        trials, value = self.trials_of[record["study_id"]], record.get("value")
        values = record.get("values") if value is None else [value]
        state = TrialState(record.get("state", TrialState.RUNNING))
        trials.append(StoredTrial(len(trials), values, dict(record.get("user_attrs", {})), state))
        self._trials.append(trials[-1])

    def _set_state(self, record: Record) -> None:
        if (trial := self._unfinished(record)) is not None:
            trial.state = TrialState(record["state"])
            trial.values = trial.values if record["values"] is None else record["values"]

    def _mark(self, record: Record) -> None:
        if (trial := self._unfinished(record)) is not None:
            trial.user_attrs.update(record["user_attr"])

    def _unfinished(self, record: Record) -> StoredTrial | None:
        """The trial that a record is about, unless nothing can change it any more."""
        number = record["trial_id"]
        trial = self._trials[number] if 0 <= number < len(self._trials) else None
        return None if trial is None or trial.state.is_finished() else trial


def read_database(connection: Connection, name: str) -> StoredStudy | None:
    """From the tables of Optuna's SQL storage."""
    # A good part of a second to import, which journals need not wait for.
    from optuna.storages._rdb import models
    from sqlalchemy import select

    study, trial = models.StudyModel, models.TrialModel
    value, mark, note = models.TrialValueModel, models.TrialUserAttributeModel, models.StudyUserAttributeModel
    study_id = connection.scalar(select(study.study_id).where(study.study_name == name))
    if study_id is None:
        return None
    wanted = (trial.study_id == study_id, trial.state == TrialState.COMPLETE)
    notes = connection.execute(select(note.key, note.value_json).where(note.study_id == study_id))
    numbers = select(trial.trial_id, trial.number).where(*wanted).order_by(trial.number)
    found = {id: StoredTrial(number, [], {}) for id, number in connection.execute(numbers)}
    values = select(value.trial_id, value.value, value.value_type).join(trial).where(*wanted)
    for id, number, kind in connection.execute(values.order_by(value.objective)):
        # A trial that was finished in this moment comes next time.
        if (one := found.get(id)) is not None and one.values is not None:
            one.values.append(value.stored_repr_to_value(number, kind))
    for id, key, text in connection.execute(
        select(mark.trial_id, mark.key, mark.value_json).join(trial).where(*wanted)
    ):
        if id in found:
            found[id].user_attrs[key] = json.loads(text)
    return StoredStudy(name, {key: json.loads(text) for key, text in notes}, list(found.values()))
