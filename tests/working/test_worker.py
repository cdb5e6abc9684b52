"""One worker, in this process."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from autoprune import errors
from autoprune.config import StudyConfig
from autoprune.errors import AutopruneError, ConfigError, ModelError
from autoprune.session import Session
from autoprune.storing.stopping import StopRequests, request_stop
from autoprune.storing.storages import open_storage
from autoprune.working.worker import work
from tests.working.conftest import trials_in


@pytest.fixture
def study(config: StudyConfig) -> optuna.Study:
    """The study as the parent leaves it to the workers."""
    return Session.open(config).prepare()


def run(config: StudyConfig, **changed: Any) -> AutopruneError | None:
    given: dict[str, Any] = {"run": "run", "index": 0, "device": None, "threads": None, "end": None}
    given |= {"folder": os.getcwd(), "parent": None}
    return work(config.model_dump(), **{**given, **changed})


@pytest.mark.usefixtures("study")
def test_it_searches_to_the_total_and_leaves_the_process_as_it_was(
    config: StudyConfig, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    threads = torch.get_num_threads()
    assert run(config, folder=str(folder), threads=1) is None
    assert len(trials_in(folder)) == config.search.trials
    assert torch.get_num_threads() == threads and Path.cwd() == elsewhere
    assert "a factory that talks" not in capfd.readouterr().out


def test_it_ends_at_the_time_on_a_request_and_when_its_parent_is_gone(
    config: StudyConfig, folder: Path, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[bool] = []
    monkeypatch.setattr("autoprune.working.worker._leave", lambda: left.append(True))
    assert run(config, end=time.time() - 1) is None
    assert not left
    assert run(config, parent=os.getppid() + 1) is None
    assert left
    request_stop(study, "mine")
    assert run(config, run="mine") is None
    assert not trials_in(folder)


def test_an_error_is_returned_and_ends_the_run_of_the_others(
    config: StudyConfig, study: optuna.Study
) -> None:
    watch, other = StopRequests(study, "run"), StopRequests(study, "other")
    broken = config.model_copy(update={"model": config.model.model_copy(update={"factory": "absent:make"})})
    assert isinstance(run(broken), ModelError)
    assert watch.asked() and not other.asked()


def test_a_journal_that_is_not_there_is_not_made(config: StudyConfig, folder: Path) -> None:
    error = run(config)
    assert isinstance(error, ConfigError) and "slow.journal" in str(error) and "server" in str(error)
    assert not (folder / "slow.journal").exists()


def test_a_study_that_is_not_there_is_an_error_too(config: StudyConfig) -> None:
    open_storage(config.storage)
    broken = config.model_copy(update={"model": config.model.model_copy(update={"factory": "absent:make"})})
    assert isinstance(run(broken), ModelError)


@pytest.mark.parametrize("kind", [v for v in vars(errors).values() if isinstance(v, type)])
def test_errors_travel_between_processes(kind: type[Exception]) -> None:
    if issubclass(kind, AutopruneError):
        copy = pickle.loads(pickle.dumps(kind("what was wanted")))
        assert type(copy) is kind and str(copy) == "what was wanted"
