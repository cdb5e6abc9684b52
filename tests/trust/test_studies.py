"""Studies in a storage that others write to."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import optuna
import pytest
from optuna import Study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalRedisBackend
from optuna.trial import FrozenTrial

from autoprune.errors import StudyError
from autoprune.searching import attributes as attr
from autoprune.searching.strategies.rate_derivation import Note
from autoprune.searching.study import finished, front_of
from autoprune.storing.artifacts import open_artifacts
from autoprune.storing.storages import open_storage
from tests.trust.traps import Change, Trap


@pytest.fixture
def study(searched: Path, tmp_path: Path) -> Study:
    (tmp_path / "s.journal").write_bytes(searched.read_bytes())
    return optuna.load_study(study_name="study", storage=open_storage(str(tmp_path / "s.journal")))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (attr.DENSE, None),
        (attr.DENSE, {"macs": 0, "params": 1, "bytes": 1, "accuracy": 0.5}),
        (attr.DENSE, {"macs": "many", "params": 1, "bytes": 1, "accuracy": 0.5}),
        (attr.DENSE, {"macs": 1, "params": 1, "bytes": 1, "accuracy": float("nan")}),
        (attr.DENSE_WIDTHS, [1, 2]),
        (attr.DENSE_WIDTHS, {"0": -3}),
        (attr.IDENTITY, "mine"),
        (attr.SCHEMA_VERSION, 99),
    ],
)
def test_what_a_study_says_of_itself(study: Study, name: str, value: object) -> None:
    study.set_user_attr(name, value)
    with pytest.raises(StudyError, match="study 'study'"):
        front_of(study)


def add(study: Study, change: Change) -> None:
    """A further finished trial that says something else."""
    first = finished(study)[0]
    marks = json.loads(json.dumps(first.user_attrs))
    change(marks)
    study.add_trial(optuna.trial.create_trial(values=list(first.values), user_attrs=marks))


@pytest.mark.parametrize(
    "change",
    [
        lambda marks: marks.pop(attr.COSTS),
        lambda marks: marks.update({attr.COSTS: [1, 2, 3]}),
        lambda marks: marks[attr.COSTS].update(macs=-1),
        lambda marks: marks[attr.COSTS].update(macs="1"),
        lambda marks: marks.update({attr.WIDTHS: {"elsewhere": 3}}),
        lambda marks: marks[attr.WIDTHS].update({"0.0": 10**9}),
        lambda marks: marks[attr.WIDTHS].update({"0.0": 0}),
        lambda marks: marks.update({attr.KEPT: "8:ff"}),
        lambda marks: marks[attr.KEPT].update({"../../etc": "8:ff"}),
        lambda marks: marks.update({attr.CRITERION: ["l1"]}),
        lambda marks: marks.update({attr.BATCH: 0}),
        lambda marks: marks.update({attr.PROXIES: {"additive": "small"}}),
        lambda marks: marks.update({attr.TRIED: [{"counts": [1]}]}),
        lambda marks: marks.update({attr.TRIED: "counts"}),
        lambda marks: marks.update({attr.BEFORE: "good"}),
    ],
)
def test_what_a_trial_says(study: Study, change: Change) -> None:
    add(study, change)
    number = study.get_trials(deepcopy=False)[-1].number
    with pytest.raises(StudyError, match=f"trial {number} of the study is damaged"):
        front_of(study)


def test_an_accuracy_that_is_no_number(study: Study) -> None:
    marks = finished(study)[0].user_attrs
    study.add_trial(optuna.trial.create_trial(values=[float("inf"), 0.5], user_attrs=marks))
    with pytest.raises(StudyError, match="accuracy should be a number"):
        front_of(study)


@pytest.mark.parametrize("mask", ["8:1ff", "8: ff", "8:0x1", "8:-1", "٨:1", "0:", "8:FF"])
def test_masks_of_channels(study: Study, mask: str) -> None:
    group = next(iter(finished(study)[0].user_attrs[attr.KEPT]))
    add(study, lambda marks: marks[attr.KEPT].update({group: mask}))
    with pytest.raises(StudyError, match=r"channel mask|its mask says"):
        dict(front_of(study).trials[-1].kept)


def test_a_mask_costs_what_it_holds_and_not_what_it_claims() -> None:
    assert attr.unpack("999999999:5").tolist() == [0, 2]


@pytest.mark.parametrize("number", ["../../etc/passwd", "/etc/passwd", "", "x" * 36, 7, None])
def test_names_of_artifacts_are_no_paths(tmp_path: Path, number: object) -> None:
    artifacts = open_artifacts(str(tmp_path / "artifacts"), None)
    content = Path("/etc/passwd").read_bytes()
    reference = {"artifact": number, "sha256": hashlib.sha256(content).hexdigest()}
    with pytest.raises(StudyError, match="should be named by artifact and sha256"):
        artifacts.load(reference, "the weights", "search again.")


@pytest.mark.parametrize(
    "line", [b"cos\nsystem\n(S'true'\ntR.", b'{"op_code": "__import__(1)"}\n', b"\x80\x04"]
)
def test_journals_are_json(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "s.journal").write_bytes(line)
    with pytest.raises(StudyError, match="storage"):
        open_storage(str(tmp_path / "s.journal"))


def test_snapshots_on_a_redis_server_are_not_unpickled(redis_url: str, flag: Path) -> None:
    import redis

    study = optuna.create_study(storage=open_storage(redis_url), study_name="study")
    with redis.Redis.from_url(redis_url) as client:
        client.set(":snapshot", pickle.dumps(Trap(flag)))
    storage = open_storage(redis_url)
    assert optuna.get_all_study_names(storage) == ["study"] and not flag.exists()
    # A hundred trials are when Optuna's own backend saves a snapshot.
    study.add_trials([optuna.trial.create_trial(value=0.0) for _ in range(101)])
    trials: list[FrozenTrial] = optuna.load_study(storage=storage, study_name="study").trials
    assert len(trials) == 101 and not flag.exists()
    with redis.Redis.from_url(redis_url) as client:
        assert client.get(":snapshot") == pickle.dumps(Trap(flag))
    # The test itself means something: Optuna's backend runs it.
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        JournalStorage(JournalRedisBackend(redis_url))
    assert flag.exists()


@pytest.mark.parametrize(
    "stored",
    [
        None,
        3,
        {},
        {"radius": 0.0, "parent": None},
        {"radius": float("nan"), "parent": 1},
        {"radius": 1.0, "parent": "0"},
    ],
)
def test_steps_of_rate_derivation(stored: object) -> None:
    with pytest.raises(StudyError, match="radius above 0"):
        Note.read(stored)
