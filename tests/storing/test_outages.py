"""Real servers that go away in the middle of the work, and come back."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from optuna.storages import BaseStorage, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from autoprune.errors import StudyError
from autoprune.storing.databases import open_database, with_driver
from autoprune.storing.patience import Patience, troubled
from autoprune.storing.storages import open_storage, parsed
from tests.services import Server, free_port

AWAY = 3.0


def work(storage: BaseStorage, study: int, name: str, over: Callable[[], bool]) -> int:
    """Create and finish trials, each with an attribute, until it is over; how many."""
    count = 0
    while count < 5 or not over():
        trial = storage.create_new_trial(study)
        storage.set_trial_user_attr(trial, "who", [name, count])
        assert storage.set_trial_state_values(trial, TrialState.COMPLETE, [float(count)])
        count += 1
    return count


def outage(url: str, stop: Callable[[], None], start: Callable[[], None]) -> None:
    """Two workers in the middle of their work when the server stops; nothing is lost, nothing done twice."""
    storages = [open_storage(url) for _ in range(2)]
    study = storages[0].create_new_study([StudyDirection.MINIMIZE], "study")
    done: dict[str, int] = {}
    over = threading.Event()

    def run(number: int) -> None:
        done[str(number)] = work(storages[number], study, str(number), over.is_set)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    over.wait(0.5)
    stop()
    # Optuna bridges a few seconds by itself where a trial is created; a reader feels every outage.
    reader = threading.Thread(target=storages[0].get_all_studies)
    reader.start()
    over.wait(AWAY)
    start()
    over.wait(1.0)
    over.set()
    reader.join(60)
    for thread in threads:
        thread.join(60)
    assert len(done) == 2, "a worker gave up"
    trials = open_storage(url, create=False).get_all_trials(study)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert [trial.number for trial in trials] == list(range(sum(done.values())))
    for name, count in done.items():
        own = [trial for trial in trials if trial.user_attrs["who"][0] == name]
        assert [trial.user_attrs["who"][1] for trial in own] == list(range(count))
        assert [trial.value for trial in own] == [float(number) for number in range(count)]
    assert any(troubled(storage, 60.0) for storage in storages)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["shutdown", "crash"])
def test_postgresql_goes_away(postgres_server: Server, how: int) -> None:
    outage(postgres_server.fresh_url(), lambda: postgres_server.stop(how), postgres_server.start)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["shutdown", "crash"])
def test_redis_goes_away(redis_server: Server, how: int) -> None:
    outage(redis_server.fresh_url(), lambda: redis_server.stop(how), redis_server.start)


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Any]:
    """Optuna's proxy before PostgreSQL, which can be stopped and started."""
    pytest.importorskip("grpc")
    from optuna.storages._grpc.server import make_server

    class Proxy:
        port = free_port()
        server: Any = None

        def start(self) -> None:
            inner = open_database(with_driver(parsed(postgres_url)))
            self.server = make_server(inner, "127.0.0.1", self.port)
            self.server.start()

        def stop(self) -> None:
            self.server.stop(0).wait()

    proxy = Proxy()
    proxy.start()
    yield proxy
    proxy.stop()


def test_the_proxy_goes_away(proxy: Any) -> None:
    outage(f"grpc://127.0.0.1:{proxy.port}", proxy.stop, proxy.start)


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_server_that_stays_away_is_an_error_in_the_end(request: pytest.FixtureRequest, kind: str) -> None:
    server: Server = request.getfixturevalue(f"{kind}_server")
    storage: Any = open_storage(server.fresh_url())
    study = storage.create_new_study([StudyDirection.MINIMIZE], "study")
    (storage if kind == "postgres" else storage._backend).patience = Patience("place", limit=0.3, first=0.1)
    server.stop()
    try:
        for use in (storage.get_all_trials, storage.create_new_trial):
            with pytest.raises(StudyError, match=r"storage 'place' does not work for 0 s: .*again"):
                use(study)
    finally:
        server.start()
    assert storage.get_all_trials(study) == []


def redis_storage(url: str) -> Any:
    storage = open_storage(url)
    assert isinstance(storage, JournalStorage)
    return storage


class Losing:
    """A script of Redis that runs, and whose answer is lost, as often as asked."""

    def __init__(self, script: Any, times: int) -> None:
        self.script, self.times = script, times

    def __call__(self, **arguments: Any) -> Any:
        from redis.exceptions import ConnectionError

        result = self.script(**arguments)
        if self.times > 0:
            self.times -= 1
            raise ConnectionError("lost")
        return result


def test_redis_holds_every_record_once(redis_url: str) -> None:
    storage = redis_storage(redis_url)
    backend = storage._backend
    backend.patience = Patience("place", first=0.01, say=lambda text: None)
    study = storage.create_new_study([StudyDirection.MINIMIZE], "study")
    waiting = storage.create_new_trial(study, _waiting())
    backend._script = Losing(backend._script, 2)
    assert storage.set_trial_state_values(waiting, TrialState.RUNNING), "it is known to be ours"
    backend._script.times = 1
    storage.create_new_trial(study)
    backend._script.times = 3
    assert storage.set_trial_state_values(waiting, TrialState.COMPLETE, [1.0])
    assert backend._script.times == 0
    assert [log["op_code"] for log in backend.read_logs(0)] == [0, 4, 6, 4, 6]


def test_a_forked_worker_of_redis_is_another_writer(redis_url: str) -> None:
    backend = redis_storage(redis_url)._backend
    child = os.fork()
    if child == 0:
        try:
            backend.append_logs([{"op_code": 10, "who": "child"}])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    backend.append_logs([{"op_code": 10, "who": "parent"}])
    assert [log["who"] for log in backend.read_logs(0)] == ["child", "parent"]


@pytest.mark.parametrize("use", ["read", "append"])
def test_a_redis_server_that_lost_the_study_is_noticed(redis_url: str, use: str) -> None:
    import redis

    storage = redis_storage(redis_url)
    study = storage.create_new_study([StudyDirection.MINIMIZE], "study")
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        with pytest.raises(StudyError, match=r"lost records of the study.*appendonly yes"):
            storage.get_all_trials(study) if use == "read" else storage.create_new_trial(study)
        assert client.keys() == [], "nothing is written on top of it"


def test_records_of_redis_are_checked_and_nothing_is_unpickled(redis_url: str) -> None:
    import redis
    from optuna.storages.journal import JournalRedisBackend

    storage = redis_storage(redis_url)
    study = storage.create_new_study([StudyDirection.MINIMIZE], "study")
    storage.create_new_trial(study)
    with redis.Redis.from_url(redis_url) as client, pytest.warns(match="experimental"):
        theirs = JournalRedisBackend(redis_url)
        assert list(theirs.read_logs(0)) == list(storage._backend.read_logs(0))
        theirs.append_logs([{"op_code": 9, "worker_id": "", "trial_id": 0, "system_attr": {"a": 1}}])
        theirs.save_snapshot(b"cos\nsystem\n(S'false'\ntR.")
        theirs._redis.close()
        assert redis_storage(redis_url).get_trial(0).system_attrs == {"a": 1}
        client.set(":log:1", json.dumps(["no record"]))
        with pytest.raises(StudyError, match="key ':log:1' is no record"):
            open_storage(redis_url)
        client.delete(":log:1")
        with pytest.raises(StudyError, match="lost records"):
            open_storage(redis_url)
        client.set(":log_number", "x")
        with pytest.raises(StudyError):
            open_storage(redis_url)


def test_a_redis_server_that_is_full_says_so(redis_url: str) -> None:
    import redis

    storage = redis_storage(redis_url)
    study = storage.create_new_study([StudyDirection.MINIMIZE], "study")
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(StudyError, match=r"cannot be used: .*memory"):
                storage.create_new_trial(study)
        finally:
            client.config_set("maxmemory", "0")
    storage.create_new_trial(study)
    assert len(storage.get_all_trials(study)) == 1


def _waiting() -> Any:
    import optuna

    return optuna.create_trial(state=TrialState.WAITING)
