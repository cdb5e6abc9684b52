"""Large studies in no time: the finished trials of a small one are repeated with other widths and values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, TrialState

from autoprune.searching import attributes as attr
from autoprune.searching.study import stored_study
from autoprune.storing.journal import JournalFile
from autoprune.storing.storages import open_storage

_COPIED = {
    "trial_params": "param_name, param_value, distribution_json",
    "trial_values": "objective, value, value_type",
    "trial_user_attributes": "key, value_json",
    "trial_system_attributes": "key, value_json",
}
"""Tables of Optuna's SQL storage and their columns, without those that number rows and trials."""


@dataclass(frozen=True)
class Change:
    """Makes another trial of a finished one: shares of its MACs and widths, and of its accuracy."""

    share: float
    accuracy: float

    def attributes(self, marks: dict[str, Any]) -> dict[str, Any]:
        costs = {**marks[attr.COSTS], "macs": max(1, int(self.share * marks[attr.COSTS]["macs"]))}
        widths = {name: max(1, int(self.share * width)) for name, width in marks[attr.WIDTHS].items()}
        return {attr.COSTS: costs, attr.WIDTHS: widths}

    def values(self, values: list[float]) -> list[float]:
        return [self.accuracy * values[0], self.share * values[1]]


def changes(count: int) -> list[Change]:
    drawn = np.random.default_rng(0).uniform((0.2, 0.5), 1.0, (count, 2))
    return [Change(share, accuracy) for share, accuracy in drawn.tolist()]


def _finished(storage: str, name: str) -> list[FrozenTrial]:
    return stored_study(storage, name).get_trials(states=(TrialState.COMPLETE,))


def fill_journal(storage: str, name: str, path: Path, count: int) -> None:
    """Record by record as a search writes them: a trial that is created in one piece would be read faster.

    `storage` is a journal that holds this study alone.
    """
    trials = _finished(storage, name)
    places = {trial.number: place for place, trial in enumerate(trials)}
    records: list[list[dict[str, Any]]] = [[] for _ in trials]
    study, born = [], -1
    for record in JournalFile(storage).read_logs(0):
        creates = record["op_code"] == JournalOperation.CREATE_TRIAL
        born += creates
        owner = born if creates else record.get("trial_id")
        if owner is None:
            study.append(record)
        elif owner in places:
            records[places[owner]].append(record)
    path.touch()
    file, pending = JournalFile(path), study
    for number, change in enumerate(changes(count)):
        place = number % len(trials)
        pending += _renumbered(records[place], number, trials[place], change)
        if len(pending) > 10_000 or number == count - 1:
            file.append_logs(pending)
            pending = []


def _renumbered(
    records: list[dict[str, Any]], number: int, trial: FrozenTrial, change: Change
) -> Iterator[dict[str, Any]]:
    changed = change.attributes(trial.user_attrs)
    for record in records:
        copied = dict(record)
        if "trial_id" in record:
            copied["trial_id"] = number
        if "user_attr" in record:
            copied["user_attr"] = {key: changed.get(key, value) for key, value in record["user_attr"].items()}
        if record.get("values"):
            copied["values"] = change.values(record["values"])
        yield copied


def fill_sqlite(storage: str, name: str, path: Path, count: int) -> None:
    """The trials once through Optuna, and their copies row by row within the database."""
    source, trials = stored_study(storage, name), _finished(storage, name)
    first = optuna.create_study(
        storage=open_storage(f"sqlite:///{path}"), study_name=name, directions=source.directions
    )
    for key, value in source.user_attrs.items():
        first.set_user_attr(key, value)
    first.add_trials(trials)
    database = sqlite3.connect(path)
    with database:
        for number, change in list(enumerate(changes(count)))[len(trials) :]:
            place = number % len(trials)
            _copy(database, place + 1, number, trials[place], change)
    database.close()


def _copy(database: sqlite3.Connection, model: int, number: int, trial: FrozenTrial, change: Change) -> None:
    """Of the trial with the id `model`. Ids begin at 1, numbers at 0."""
    columns, made = "study_id, state, datetime_start, datetime_complete", number + 1
    database.execute(
        f"INSERT INTO trials (trial_id, number, {columns}) "
        f"SELECT ?, ?, {columns} FROM trials WHERE trial_id = ?",
        (made, number, model),
    )
    for table, columns in _COPIED.items():
        database.execute(
            f"INSERT INTO {table} (trial_id, {columns}) SELECT ?, {columns} FROM {table} WHERE trial_id = ?",
            (made, model),
        )
    for key, value in change.attributes(trial.user_attrs).items():
        database.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = ? AND key = ?",
            (json.dumps(value), made, key),
        )
    for objective, value in enumerate(change.values(trial.values)):
        database.execute(
            "UPDATE trial_values SET value = ? WHERE trial_id = ? AND objective = ?", (value, made, objective)
        )
