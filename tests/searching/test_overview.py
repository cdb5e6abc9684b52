from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna import Study
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from autoprune.searching.attributes import DENSE, DENSE_WIDTHS, IDENTITY
from autoprune.searching.overview import Best, overview, overviews
from autoprune.storing.marks import LOST, WITHDRAWN, WORKER
from autoprune.storing.storages import open_storage
from autoprune.storing.workers import new_worker

DIRECTIONS = ["maximize", "minimize"]


@pytest.fixture
def storage() -> BaseStorage:
    return InMemoryStorage()


@pytest.fixture
def study(storage: BaseStorage) -> Study:
    found = optuna.create_study(storage=storage, study_name="b", directions=DIRECTIONS)
    found.set_user_attr(DENSE, {"macs": 10, "params": 5, "bytes": 20, "accuracy": 0.9})
    found.set_user_attr(IDENTITY, {"seed": 0})
    return found


def done(*values: float) -> FrozenTrial:
    return create_trial(values=list(values))


def trial(state: TrialState, **marks: Any) -> FrozenTrial:
    return create_trial(state=state, user_attrs=marks)


def test_every_trial_is_counted_once_but_withdrawn_ones(study: Study) -> None:
    study.add_trials([done(0.5, 0.4), done(0.6, 0.8)])
    study.add_trials([trial(TrialState.FAIL, **{LOST: "gone"}), trial(TrialState.FAIL)])
    study.add_trials([trial(TrialState.FAIL, **{WITHDRAWN: "enough others"}), trial(TrialState.WAITING)])
    found = overview(study)
    assert (found.finished, found.running, found.waiting, found.failed, found.lost) == (2, 0, 1, 2, 1)
    assert found.made_by_autoprune and found.dense_accuracy == 0.9


def test_best_is_within_half_of_the_macs_where_there_is_such_a_trial(study: Study) -> None:
    assert overview(study).best is None
    study.add_trial(done(0.7, 0.8))
    assert overview(study).best == Best(0, 0.7, 0.8)
    study.add_trials([done(0.4, 0.5), done(0.5, 0.5), done(0.5, 0.3), done(0.9, 0.51)])
    assert overview(study).best == Best(3, 0.5, 0.3)


def test_workers_that_are_known_to_be_dead_are_left_out(study: Study) -> None:
    with new_worker() as living:
        for name in (living, living, "another-host/1/abc", living.replace(living.split("/")[1], "999999999")):
            study.ask().set_user_attr(WORKER, name)
        study.ask()
        found = overview(study)
    assert found.running == 4 and set(found.workers) == {living, "another-host/1/abc"}
    assert found.failed == found.lost == 1


def test_the_last_activity_knows_its_offset(study: Study) -> None:
    assert overview(study).to_json()["last_activity"] is None
    before = datetime.now().astimezone()
    study.tell(study.ask(), [0.5, 0.5])
    text = overview(study).to_json()["last_activity"]
    assert abs((datetime.fromisoformat(text) - before).total_seconds()) < 60


def test_studies_of_others_are_listed_without_what_only_ours_have(storage: BaseStorage, study: Study) -> None:
    other = optuna.create_study(storage=storage, study_name="a")
    other.add_trial(create_trial(value=1.0))
    damaged = optuna.create_study(storage=storage, study_name="c", directions=DIRECTIONS)
    damaged.set_user_attr(IDENTITY, {})
    found = overviews(storage)
    assert [item.study for item in found] == ["a", "b", "c"]
    assert [item.made_by_autoprune for item in found] == [False, True, True]
    assert found[0].finished == 1 and found[0].best is None and found[2].dense_accuracy is None


def test_a_storage_without_studies(tmp_path: Path) -> None:
    assert overviews(open_storage(str(tmp_path / "empty.journal"))) == []


def test_a_damaged_trial_spoils_no_list(storage: BaseStorage, study: Study) -> None:
    """Where the front runs over another cost, the ratio of MACs is read from each trial."""
    study.set_user_attr(IDENTITY, {"objective": "params"})
    study.set_user_attr(DENSE_WIDTHS, {"a": 4})
    study.add_trial(done(0.8, 0.5))
    (found,) = overviews(storage)
    assert found.best is not None and found.best.accuracy == 0.8
