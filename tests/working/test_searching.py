"""`autoprune search` with workers, as a user starts, kills and interrupts it."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from autoprune.storing.storages import open_storage
from tests.working.conftest import Search, is_alive, trials_in

TOTAL = 20


def assert_complete(folder: Path, total: int) -> None:
    done = trials_in(folder)
    storage = open_storage(str(folder / "slow.journal"), create=False)
    every = optuna.load_study(storage=storage, study_name="slow").get_trials(deepcopy=False)
    assert len(done) == total
    assert not [trial.number for trial in every if trial.state is TrialState.RUNNING]
    assert sorted(trial.number for trial in every) == list(range(len(every)))


def workers_of(folder: Path) -> set[str]:
    return {str(trial.user_attrs["worker"]) for trial in trials_in(folder)}


def test_two_workers_share_the_trials(search: Search, folder: Path) -> None:
    code, out, err = search("--workers", "2", "--trials", str(TOTAL), "--json", seconds=0.01, meet=2).end()
    assert code == 0, err
    assert json.loads(out)["study"] == "slow"
    assert_complete(folder, TOTAL)
    assert len(workers_of(folder)) == 2


def test_a_killed_worker_is_replaced(search: Search, folder: Path) -> None:
    searching = search("--workers", "2", "--trials", str(TOTAL), seconds=0.05)
    searching.until(lambda: searching.has_begun() and bool(searching.workers()))
    os.kill(searching.workers()[0], signal.SIGKILL)
    code, _, err = searching.end()
    assert code == 0, err
    assert len([line for line in err.splitlines() if line.startswith("a worker died")]) == 1
    assert "Traceback" not in err
    assert_complete(folder, TOTAL)


@pytest.mark.parametrize(("workers", "group"), [(1, True), (2, True), (2, False)])
def test_interrupted_once_it_finishes_the_running_trials(
    search: Search, folder: Path, workers: int, group: bool
) -> None:
    searching = search("--workers", str(workers), "--trials", "1000", "--json", seconds=0.05)
    searching.until(lambda: searching.has_begun() and bool(searching.workers()))
    (os.killpg if group else os.kill)(searching.process.pid, signal.SIGINT)
    code, out, err = searching.end()
    assert code == 130, err
    assert "press Ctrl-C again" in err and "the same command continues" in err and "Traceback" not in err
    assert json.loads(out)["front"]
    assert not trials_in(folder, TrialState.RUNNING) and 2 <= len(trials_in(folder)) < 1000


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_twice_it_stops_at_once_and_can_be_continued(
    search: Search, folder: Path, workers: int
) -> None:
    searching = search("--workers", str(workers), "--trials", "1000", seconds=0.05)
    searching.until(lambda: bool(searching.workers()))
    processes = searching.hold()
    os.killpg(searching.process.pid, signal.SIGINT)
    assert searching.says("press Ctrl-C again")
    os.killpg(searching.process.pid, signal.SIGINT)
    code, out, err = searching.end()
    assert code == 130 and not out and "Traceback" not in without_trackers(err), err
    assert not any(is_alive(process) for process in processes)
    assert trials_in(folder, TrialState.RUNNING)
    (folder / "hold").unlink()
    code, _, err = search("--trials", "4").end()
    assert code == 0, err
    assert_complete(folder, 4)


def without_trackers(text: str) -> str:
    """Without what joblib's resource tracker says in a process of its own, when it is too late for a file."""
    pattern = r"Traceback[^\n]*\n  File [^\n]*resource_tracker\.py.*?\nKeyError:[^\n]*\n"
    return re.sub(pattern, "", text, flags=re.S)


def test_workers_end_when_their_parent_is_killed(search: Search, folder: Path) -> None:
    searching = search("--workers", "2", "--trials", "1000", seconds=0.05)
    searching.until(lambda: len(searching.workers()) == 2)
    processes = searching.workers()
    searching.process.kill()
    searching.end()
    assert not any(is_alive(process) for process in processes)
    assert not trials_in(folder, TrialState.RUNNING)


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_cluster_searches_too(search: Search, folder: Path, backend: str, module: str) -> None:
    pytest.importorskip(module)
    given = ("--backend", backend, "--workers", "2", "--trials", str(TOTAL), "--json")
    code, out, err = search(*given, seconds=0.01, meet=2).end()
    assert code == 0, err
    assert "Traceback" not in err
    assert json.loads(out)["front"]
    assert_complete(folder, TOTAL)
    assert len(workers_of(folder)) == 2
    assert not any(name.split("/")[1] == "0" for name in workers_of(folder))
