from __future__ import annotations

import inspect
import pickle
import threading
from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, PendingRollbackError, ProgrammingError

from autoprune.errors import StudyError
from autoprune.storing.databases import open_database
from autoprune.storing.patience import Patience, reason, troubled
from autoprune.storing.patient import PatientDatabase, PatientStorage, patient

BROKEN = OperationalError("SELECT 1", None, Exception("the server closed the connection"))


class Clock:
    """Time that passes only in pauses."""

    def __init__(self) -> None:
        self.now, self.pauses = 100.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def impatient(**options: Any) -> tuple[Patience, Clock, list[str]]:
    clock, said = Clock(), list[str]()
    options = {"say": said.append, "clock": clock, "sleep": clock.sleep, **options}
    return Patience("redis://me:***@host", **options), clock, said


def failing(times: int, error: Exception = BROKEN) -> Any:
    left = [times]

    def action(again: bool) -> bool:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return again

    return action


def test_pauses_grow_and_the_outage_is_told_once() -> None:
    patience, clock, said = impatient()
    assert patience.run(failing(0)) is False and clock.pauses == [] and said == []
    assert patience.run(failing(12)) is True
    longest = [min(10.0, 0.5 * 2**n) for n in range(12)]
    assert all(0.5 * most <= pause <= most for pause, most in zip(clock.pauses, longest, strict=True))
    assert len(set(clock.pauses)) == 12, "workers do not come back at the same moment"
    assert len(said) == 2 and "is away" in said[0] and "the server closed" in said[0] and "is back" in said[1]
    assert patience.run(failing(1)) is True and len(said) == 4


def test_an_outage_longer_than_the_limit_is_an_error() -> None:
    patience, clock, said = impatient(limit=60.0)
    with pytest.raises(StudyError, match=r"me:\*\*\*@host' does not work for 60 s: .*the server closed"):
        patience.run(failing(10_000))
    assert sum(clock.pauses) == pytest.approx(60.0) and len(said) == 1
    with pytest.raises(StudyError):
        patience.run(failing(1))
    assert sum(clock.pauses) == pytest.approx(60.0), "those who clean up do not wait once more"
    patience.run(failing(0))
    assert patience.run(failing(1)) is True, "it was back in between"


@pytest.mark.parametrize("error", [KeyError(1), ValueError("x"), ProgrammingError("x", None, Exception("y"))])
def test_other_errors_are_not_waited_for(error: Exception) -> None:
    patience, clock, _ = impatient()
    with pytest.raises(type(error)):
        patience.run(failing(1, error))
    assert clock.pauses == [] and reason(error) is None


def test_threads_share_an_outage() -> None:
    said: list[str] = []
    patience = Patience("place", first=0.01, longest=0.02, say=said.append)
    barrier = threading.Barrier(5)

    def work() -> None:
        barrier.wait()
        patience.run(failing(5))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 2 <= len(said) <= 10 and said[0].startswith("storage 'place' is away")


def test_errors_that_optuna_wraps_are_recognised() -> None:
    for cause in (BROKEN, PendingRollbackError("can't reconnect")):
        error = optuna.exceptions.StorageInternalError("An exception is raised during the commit.")
        error.__cause__ = cause
        assert reason(error) is not None
    redis = pytest.importorskip("redis")
    assert reason(redis.exceptions.ConnectionError("refused")) == "refused"
    assert reason(redis.exceptions.BusyLoadingError("loading")) == "loading"
    for other in (redis.exceptions.AuthenticationError("no"), redis.exceptions.ResponseError("full")):
        assert reason(other) is None


def test_every_operation_of_a_storage_is_delegated() -> None:
    operations = {name for name, _ in inspect.getmembers(BaseStorage, inspect.isfunction) if name[0] != "_"}
    assert operations <= set(vars(PatientStorage))
    beats = set(BaseHeartbeat.__abstractmethods__)
    assert beats <= set(vars(PatientDatabase))
    assert not isinstance(patient(InMemoryStorage(), impatient()[0]), BaseHeartbeat)


class Deaf:
    """A storage whose answer to the next operation of a kind is lost after the operation was done."""

    def __init__(self, inner: BaseStorage) -> None:
        self.inner, self.losing = inner, ""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if name == self.losing:
                self.losing = ""
                raise BROKEN
            return result

        return call


Parts = tuple[Deaf, PatientStorage, int]


@pytest.fixture
def parts() -> Parts:
    deaf: Any = Deaf(InMemoryStorage())
    storage = PatientStorage(deaf, impatient()[0])
    return deaf, storage, storage.create_new_study([StudyDirection.MINIMIZE], "study")


@pytest.mark.parametrize("template", [None, optuna.create_trial(state=TrialState.WAITING)])
def test_a_trial_that_was_created_is_not_created_again(parts: Parts, template: Any) -> None:
    deaf, storage, study = parts
    storage.create_new_trial(study, template)
    deaf.losing = "create_new_trial"
    number = storage.create_new_trial(study, template)
    trials = storage.get_all_trials(study)
    assert [trial._trial_id for trial in trials][1:] == [number]
    assert template is None or template.system_attrs == {}


@pytest.mark.parametrize(("state", "values"), [(TrialState.COMPLETE, [2]), (TrialState.FAIL, None)])
def test_a_trial_that_was_finished_is_not_finished_again(
    parts: Parts, state: TrialState, values: Sequence[float] | None
) -> None:
    deaf, storage, study = parts
    trial = storage.create_new_trial(study)
    deaf.losing = "set_trial_state_values"
    assert storage.set_trial_state_values(trial, state, values)
    assert storage.get_trial(trial).state is state
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial, state, values)


def test_a_trial_that_somebody_else_finished_is_an_error(parts: Parts) -> None:
    deaf, storage, study = parts
    trial = storage.create_new_trial(study)
    deaf.losing = "get_trial"
    deaf.inner.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])

    class Late(Deaf):
        def __getattr__(self, name: str) -> Any:
            if name == "set_trial_state_values" and self.losing:
                self.losing = ""
                raise BROKEN
            return getattr(self.inner, name)

    late: Any = Late(deaf.inner)
    late.losing = "x"
    with pytest.raises(UpdateFinishedTrialError):
        PatientStorage(late, impatient()[0]).set_trial_state_values(trial, TrialState.COMPLETE, [2.0])


def test_what_else_was_done_before_the_connection_broke(parts: Parts) -> None:
    deaf, storage, study = parts
    waiting = storage.create_new_trial(study, optuna.create_trial(state=TrialState.WAITING))
    deaf.losing = "set_trial_state_values"
    assert not storage.set_trial_state_values(waiting, TrialState.RUNNING), "it may be another's"
    deaf.losing = "create_new_study"
    with pytest.raises(DuplicatedStudyError):
        storage.create_new_study([StudyDirection.MINIMIZE], "other")
    deaf.losing = "delete_study"
    storage.delete_study(study)
    with pytest.raises(KeyError):
        storage.delete_study(study)


def test_optunas_own_second_attempt_makes_no_second_trial(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optuna.storages._rdb.storage.random.random", lambda: 0.0)
    database: Any = open_database(make_url(f"sqlite:///{tmp_path}/a.db"))
    storage = patient(database, impatient()[0])
    study = storage.create_new_study([StudyDirection.MINIMIZE], "study")
    lost, sessions = list[Any](), database._backend.scoped_session.session_factory.class_
    commit = sessions.commit

    def lose(session: Any) -> None:
        commit(session)
        if len(lost) < 2:
            lost.append(session)
            raise BROKEN

    monkeypatch.setattr(sessions, "commit", lose)
    made = storage.create_new_trial(study)
    assert len(lost) == 2
    assert [trial._trial_id for trial in storage.get_all_trials(study)] == [made]
    storage.create_new_trial(study)
    assert len(storage.get_all_trials(study)) == 2 and database._backend._tried == set()


def test_after_an_outage_nobody_is_held_dead_at_once(tmp_path: Any) -> None:
    storage: Any = patient(open_database(make_url(f"sqlite:///{tmp_path}/a.db")), impatient()[0])
    storage.inner._get_stale_trial_ids = lambda study: [7]
    assert storage._get_stale_trial_ids(0) == [7] and not troubled(storage, 60.0)
    storage.patience.run(failing(1))
    assert storage._get_stale_trial_ids(0) == [] and troubled(storage, 60.0)
    storage.patience.clock.sleep(60.0)
    assert storage._get_stale_trial_ids(0) == [7] and not troubled(storage, 60.0)
    assert not troubled(InMemoryStorage(), 60.0)


def test_it_can_be_sent_to_another_process() -> None:
    patience = Patience("place")
    with pytest.raises(ValueError):
        patience.run(failing(1, ValueError("x")))
    assert pickle.loads(pickle.dumps(patience)).run(failing(0)) is False
