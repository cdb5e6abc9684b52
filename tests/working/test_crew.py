"""Several workers, started from this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoprune.config import StudyConfig
from autoprune.errors import ConfigError, ModelError, StudyError
from autoprune.progress import Silent, Stage
from autoprune.searching.running import never
from autoprune.searching.study import stored_study
from autoprune.session import Session
from autoprune.storing.stopping import request_stop
from autoprune.working import Crew
from tests.working.conftest import trials_in


class Listening(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def with_factory(config: StudyConfig, name: str) -> StudyConfig:
    return config.model_copy(
        update={"model": config.model.model_copy(update={"factory": f"slow_network:{name}"})}
    )


@pytest.mark.parametrize("storage", ["sqlite://", "sqlite:///study.db", "sqlite+pysqlite:///study.db"])
@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_sqlite_serves_one_process(config: StudyConfig, storage: str, backend: str) -> None:
    several = Crew(config=config.model_copy(update={"storage": storage}), workers=2, backend=backend)
    with pytest.raises(ConfigError, match="SQLite is for one process; use a journal"):
        several.prepare(Silent())
    Crew(config=several.config, workers=1).check()


def test_a_journal_may_be_called_sqlite(config: StudyConfig) -> None:
    Crew(config=config.model_copy(update={"storage": "sqlite.journal"}), workers=2).check()


def test_backends_have_names_and_schedulers_belong_to_clusters(config: StudyConfig) -> None:
    with pytest.raises(ConfigError, match="did you mean 'dask'"):
        Crew(config=config, workers=2, backend="desk").check()
    with pytest.raises(ConfigError, match="--backend dask"):
        Crew(config=config, workers=2, scheduler="tcp://host:8786").check()


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_package_names_its_extra(
    config: StudyConfig, backend: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"pip install 'autoprune\[{backend}\]'"):
        Crew(config=config, workers=1, backend=backend).check()


def test_preparing_leaves_to_the_workers_only_trials(config: StudyConfig, folder: Path) -> None:
    Crew(config=config, workers=2).prepare(Silent())
    session = Session.open(config)
    session.engine._profiled = pytest.fail  # type: ignore[method-assign]
    session.search(trials=1)
    assert len(trials_in(folder)) == 1


class _Stopping(Silent):
    """Asks all workers of the study to stop while its curves are made."""

    def __init__(self, config: StudyConfig) -> None:
        self.config = config

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Stage]:
        if title == "profile":
            request_stop(stored_study(self.config.storage, self.config.name))
        with super().stage(title, total) as stage:
            yield stage


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_to_stop_is_heard_during_the_preparation(
    config: StudyConfig, folder: Path, workers: int
) -> None:
    search = Crew(config=config, workers=workers).prepare(_Stopping(config))
    assert not search(None, never).trials
    # And obeyed once: the same command again continues.
    assert len(Crew(config=config, workers=1).prepare(Silent())(None, never).trials) == config.search.trials


def test_a_complete_study_starts_no_workers(config: StudyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    Session.open(config).search()

    @contextmanager
    def nowhere(*given: object) -> object:  # type: ignore[misc]
        pytest.fail("workers were started")

    monkeypatch.setattr("autoprune.working.crew.BACKENDS", {"loky": nowhere})
    front = Crew(config=config, workers=2).prepare(Silent())(None, never)
    assert len(front.trials) == config.search.trials


def test_an_error_in_a_worker_comes_back_as_itself(config: StudyConfig, folder: Path) -> None:
    search = Crew(config=with_factory(config, "only_in_the_parent"), workers=2).prepare(Silent())
    with pytest.raises(ModelError, match="no weights here"):
        search(None, never)
    assert not trials_in(folder)


def test_workers_that_die_each_time_are_given_up(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprune.working.shift.RESTARTS", 1)
    listening = Listening()
    search = Crew(config=with_factory(config, "deadly"), workers=2).prepare(listening)
    with pytest.raises(StudyError, match="finished no trial"):
        search(None, never)
    assert len([text for text in listening.messages if text.startswith("a worker died")]) == 1
