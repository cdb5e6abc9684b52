from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.engine import make_url

from autoprune.errors import StudyError
from autoprune.storing import databases
from autoprune.storing.storages import open_storage
from tests.services import free_port

KINDS = ["journal", "sqlite", "postgresql", "redis", "grpc"]
DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]


@pytest.fixture
def proxy_url(postgres_url: str) -> Iterator[str]:
    """Optuna's storage proxy before PostgreSQL."""
    pytest.importorskip("grpc")
    from optuna.storages._grpc.server import make_server

    port = free_port()
    server = make_server(open_storage(postgres_url), "127.0.0.1", port)
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    local = {"journal": str(tmp_path / "deep" / "s.journal"), "sqlite": f"sqlite:///{tmp_path}/s.db"}
    servers = {"postgresql": "postgres_url", "redis": "redis_url", "grpc": "proxy_url"}
    found: str = local.get(request.param) or request.getfixturevalue(servers[request.param])
    return found


@pytest.mark.parametrize("url", KINDS, indirect=True)
def test_what_is_stored_is_found_again(url: str) -> None:
    storage = open_storage(url)
    number = storage.create_new_study(DIRECTIONS, "study")
    storage.set_study_user_attr(number, "identity", {"list": [1, 2.5, None], "text": "ü" * 3000})
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        storage.create_new_study(DIRECTIONS, "study")
    for count in range(3):
        trial = storage.create_new_trial(number)
        storage.set_trial_param(trial, "rate", 0.25 * count, FloatDistribution(0.0, 1.0))
        storage.set_trial_user_attr(trial, "widths", {"conv": count, "more": "x" * 5000})
        assert storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.5, float(count)])
    waiting = storage.create_new_trial(number, optuna.create_trial(state=TrialState.WAITING))
    assert storage.set_trial_state_values(waiting, TrialState.RUNNING)
    assert not storage.set_trial_state_values(waiting, TrialState.RUNNING)

    again = open_storage(url, create=False)
    study = optuna.load_study(storage=again, study_name="study")
    assert study.directions == DIRECTIONS
    assert study.user_attrs == {"identity": {"list": [1, 2.5, None], "text": "ü" * 3000}}
    trials = study.get_trials()
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3 + ["RUNNING"]
    for count, trial in enumerate(trials[:3]):
        assert trial.params == {"rate": 0.25 * count} and trial.values == [0.5, float(count)]
        assert trial.user_attrs == {"widths": {"conv": count, "more": "x" * 5000}}
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        again.set_trial_user_attr(trials[0]._trial_id, "late", 1)


def test_none_is_memory() -> None:
    assert isinstance(open_storage(None), InMemoryStorage)


@pytest.mark.parametrize("url", ["postgresql", "sqlite"], indirect=True)
def test_servers_have_heartbeats(url: str) -> None:
    storage = open_storage(url)
    assert isinstance(storage, BaseHeartbeat)
    server = not url.startswith("sqlite")
    assert storage.get_heartbeat_interval() == (15 if server else None)
    assert storage.get_heartbeat_stale_trial_callback() is None
    if server:
        study = storage.create_new_study(DIRECTIONS, "study")
        storage.record_heartbeat(storage.create_new_trial(study))
        assert storage._get_stale_trial_ids(study) == []


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://me:secret@host/base", "psycopg", "postgres"),
        ("mysql://me:secret@host/base", "pymysql", "mysql"),
        ("redis://:secret@host/0", "redis", "redis"),
        ("grpc://host:13000", "grpc", "grpc"),
    ],
)
def test_a_missing_driver_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("autoprune.storing.proxy")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StudyError, match=rf"pip install 'autoprune\[{extra}\]'") as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("odd://me:secret@x", "unknown kind 'odd'.*Known: grpc, mysql, postgresql, redis, sqlite"),
        ("postgresql://me:se/secret@host/base", "cannot be opened|no valid URL"),
        ("postgresql://me:secret@host:port/base", "no valid URL.*%40"),
        ("redis://:se/secret@host/0", "no valid URL.*%40"),
        ("grpc://host", "should be grpc://host:port"),
        ("grpc://host:secret", "no valid URL"),
    ],
)
def test_a_url_that_is_wrong_does_not_tell_its_password(url: str, words: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StudyError, match=words) as caught:
        open_storage(url)
    text = str(caught.value).replace(url, "") if "grpc" in url else str(caught.value)
    assert "secret" not in text and "\n" not in text


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "redis", "grpc"])
def test_the_first_connection_is_not_waited_for(kind: str) -> None:
    module = {"postgresql": "psycopg", "mysql": "pymysql"}.get(kind, kind)
    pytest.importorskip(module)
    user = "" if kind == "grpc" else ":secret@" if kind == "redis" else "me:secret@"
    begin = time.monotonic()
    with pytest.raises(StudyError, match=r"cannot be opened: .*([Rr]efused|[Cc]onnect)") as caught:
        open_storage(f"{kind}://{user}127.0.0.1:{free_port()}{'' if kind == 'grpc' else '/0'}")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert time.monotonic() - begin < 60, "the patience for outages is 600 s"


def test_a_password_is_written_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def database(url: str, **options: Any) -> BaseStorage:
        seen.append(make_url(url.format()).password)
        raise StudyError("enough")

    monkeypatch.setattr(databases, "Database", database)
    with pytest.raises(StudyError, match="enough"):
        open_storage("postgresql://me:a%40b{c}%25@host/base")
    assert seen == ["a@b{c}%"]


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgresql", "postgresql+psycopg"),
        ("postgres", "postgresql+psycopg"),
        ("mysql", "mysql+pymysql"),
        ("postgresql+psycopg2", "postgresql+psycopg2"),
    ],
)
def test_urls_without_a_driver_get_ours(given: str, driver: str) -> None:
    assert databases.with_driver(make_url(f"{given}://host/base")).drivername == driver


def test_several_workers_may_make_the_tables(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "quiet", contextlib.nullcontext)
    url = databases.with_driver(make_url(postgres_url))
    barrier, opened = threading.Barrier(6), list[BaseStorage]()

    def start() -> None:
        barrier.wait()
        opened.append(databases.open_database(url))

    threads = [threading.Thread(target=start) for _ in range(6)]
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(opened) == 6
    opened[0].create_new_study(DIRECTIONS, "study")
    assert all(storage.get_study_id_from_name("study") == 1 for storage in opened)


def test_a_database_file_in_trouble_is_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    monkeypatch.setattr(databases, "LOCK_TIMEOUT", 0.05)
    monkeypatch.setattr("optuna.storages._rdb.storage.random.random", lambda: 0.0)
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    study = storage.create_new_study(DIRECTIONS, "study")
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StudyError, match=r"s\.db' does not work: .*database is locked"):
            storage.create_new_trial(study)
    storage.create_new_trial(study)
    assert storage.get_all_trials(study)[0].system_attrs == {}
