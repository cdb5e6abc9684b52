"""A study that is read at one go is the one that Optuna reads."""

from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from autoprune.errors import StudyError
from autoprune.storing.reading import StoredStudy, read_stored, without_collector
from autoprune.storing.storages import open_storage

NAMES = ["a", "b", "c"]
ACTIONS = ["study", "delete", "note", *["trial"] * 4, *["mark"] * 8, *["state"] * 6, "parameter"]
TWO = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
FINITE = [0.1, -1e300, 1e-7, 3.0]


def act(storage: BaseStorage, rng: random.Random) -> None:
    """Some operation, be it allowed or not."""
    studies = storage.get_all_studies()
    action = rng.choice(ACTIONS)
    if action == "study":
        storage.create_new_study(TWO, rng.choice(NAMES))
        return
    study_id = rng.choice(studies)._study_id
    trials = storage.get_all_trials(study_id, deepcopy=False)
    if action == "delete" and len(studies) > 2 and rng.random() < 0.3:
        storage.delete_study(study_id)
    elif action == "note":
        storage.set_study_user_attr(study_id, rng.choice("xyz"), {"ü": [rng.random()]})
    elif action == "trial":
        storage.create_new_trial(study_id, rng.choice([None, template(rng)]))
    elif trials:
        change(storage, rng.choice(trials)._trial_id, action, rng)


def template(rng: random.Random) -> Any:
    state = rng.choice([TrialState.COMPLETE, TrialState.WAITING, TrialState.FAIL, TrialState.RUNNING])
    value = rng.choice([*FINITE, float("inf"), float("-inf")])
    values = [value, 0.5] if state is TrialState.COMPLETE else None
    return optuna.create_trial(state=state, values=values, user_attrs={"x": rng.random()})


def change(storage: BaseStorage, trial: int, action: str, rng: random.Random) -> None:
    if action == "mark":
        storage.set_trial_user_attr(trial, rng.choice("xyz"), rng.choice([None, "ü", [1, {"k": 0.1}]]))
    elif action == "parameter":
        storage.set_trial_param(trial, "p", rng.random(), FloatDistribution(0, 1))
    else:
        state = rng.choice([TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL])
        values = [rng.choice(FINITE), 0.25] if state is TrialState.COMPLETE else None
        storage.set_trial_state_values(trial, state, values)


def expected(storage: BaseStorage, name: str) -> StoredStudy | None:
    try:
        study = optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        return None
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return StoredStudy(name, study.user_attrs, [(t.number, t.values, t.user_attrs) for t in trials])  # type: ignore[misc]


def found(storage: str, name: str) -> StoredStudy | None:
    study = read_stored(storage, name)
    if study is not None:
        study.finished = [(t.number, t.values, t.user_attrs) for t in study.finished]  # type: ignore[misc]
    return study


@pytest.mark.parametrize(
    ("kind", "seed"), [*(("journal", s) for s in range(6)), ("sqlite", 0), ("sqlite", 1)]
)
def test_what_many_operations_leave(tmp_path: Path, kind: str, seed: int) -> None:
    place = str(tmp_path / "s.journal") if kind == "journal" else f"sqlite:///{tmp_path}/s.db"
    storage, rng = open_storage(place), random.Random(seed)
    for name in NAMES[:2]:
        storage.create_new_study(TWO, name)
    for _ in range(150):
        try:
            act(storage, rng)
        except (OptunaError, KeyError):
            continue
    studies = [expected(open_storage(place), name) for name in NAMES]
    assert studies == [found(place, name) for name in NAMES]
    assert sum(len(study.finished) for study in studies if study is not None) > 1


def test_records_of_two_writers_that_met(tmp_path: Path) -> None:
    """A study that is made twice, a trial that is changed after its end: the later one counts nothing."""
    path = tmp_path / "s.journal"
    storage = open_storage(str(path))
    trial = storage.create_new_trial(storage.create_new_study(TWO, "a"))
    lines = path.read_bytes()
    storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.5, 0.5])
    done = path.read_bytes()[len(lines) :]
    late = b'{"op_code":8,"worker_id":"w","trial_id":0,"user_attr":{"x":1}}\n'
    lost = b'{"op_code":8,"worker_id":"w","trial_id":99,"user_attr":{"x":1}}\n'
    other = b'{"op_code":4,"worker_id":"w","study_id":7,"datetime_start":null}\n'
    path.write_bytes(b"".join([lines, lines, done, late, lost, other, lines, b'{"op_co']))
    assert found(str(path), "a") == expected(open_storage(str(path)), "a")


@pytest.mark.parametrize(
    "line",
    ["no record", '{"op_code":4}', '{"op_code":6,"trial_id":0,"state":77}', '{"op_code":8,"trial_id":"0"}'],
)
def test_damage_is_an_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "s.journal"
    storage = open_storage(str(path))
    storage.create_new_trial(storage.create_new_study(TWO, "a"))
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(StudyError, match="damaged"):
        read_stored(str(path), "a")


def test_only_what_can_be_read_at_one_go_is(tmp_path: Path) -> None:
    assert read_stored("redis://nowhere/0", "a") is None and read_stored("grpc://nowhere:1", "a") is None
    for storage in (str(tmp_path / "no.journal"), f"sqlite:///{tmp_path}/no.db", "odd://x", "http://["):
        with pytest.raises(StudyError):
            read_stored(storage, "a")
    assert list(tmp_path.iterdir()) == []


def test_the_collector_is_as_it_was() -> None:
    assert gc.isenabled()
    with without_collector(), without_collector():
        assert not gc.isenabled()
    assert gc.isenabled()
