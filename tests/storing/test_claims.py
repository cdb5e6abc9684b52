"""Claims: one at a time, the dead lose theirs, and waiting ends when the thing is there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna import Study
from optuna.storages import InMemoryStorage

from autoprune.storing import claims as claims_module
from autoprune.storing.claims import CLAIM, Claims
from autoprune.storing.storages import open_storage

NAME = "thing"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "study.journal")


def study_at(path: str | None) -> Study:
    storage = InMemoryStorage() if path is None else open_storage(path)
    return optuna.create_study(storage=storage, study_name="s", load_if_exists=True)


def claims_of(study: Study, said: list[str] | None = None, **times: float) -> Claims:
    say = [].append if said is None else said.append
    return Claims(study, say, **{"beat": 0.05, "grace": 0.5, "poll": 0.02, **times})


def claim(study: Study, worker: str, beat: int = 0) -> None:
    study.set_user_attr(NAME + CLAIM, {"worker": worker, "beat": beat})


def is_done(study: Study) -> bool:
    return "result" in study.user_attrs


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_of_many_at_once_one_makes_it(path: str) -> None:
    study_at(path)
    made: list[int] = []
    ready, turns = threading.Barrier(4), []

    def work(number: int) -> None:
        study = study_at(path)
        ready.wait()
        with claims_of(study).turn(NAME, "the thing", lambda: is_done(study)) as mine:
            turns.append(mine)
            if mine and not is_done(study):
                made.append(number)
                time.sleep(0.3)
                study.set_user_attr("result", number)
        assert is_done(study)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(turns) == 4
    assert study_at(path).user_attrs["result"] == made[0]
    assert study_at(path).user_attrs[NAME + CLAIM] == {}


def test_what_is_done_needs_no_claim(path: str) -> None:
    study = study_at(path)
    with claims_of(study).turn(NAME, "the thing", lambda: True) as mine:
        assert not mine
    assert study.user_attrs == {}


@pytest.mark.parametrize("damage", [None, {}, {"worker": 7}, "mine", {"worker": "no such form"}, {"beat": 3}])
def test_a_claim_that_is_nobody_s_is_taken(path: str, damage: Any) -> None:
    study = study_at(path)
    study.set_user_attr(NAME + CLAIM, damage)
    with claims_of(study, grace=0.0).turn(NAME, "the thing", lambda: False) as mine:
        assert mine
        assert study.user_attrs[NAME + CLAIM]["worker"].startswith(f"{socket.gethostname()}/{os.getpid()}/")


@pytest.mark.parametrize("process", [None, "own"])
def test_a_dead_worker_of_this_host_loses_its_claim_at_once(path: str, process: str | None) -> None:
    study, said = study_at(path), []
    # A process with our number that is not one of our workers ran before a restart of the machine.
    number = dead_process() if process is None else os.getpid()
    claim(study, f"{socket.gethostname()}/{number}/abcdef01")
    with claims_of(study, said, grace=1e9).turn(NAME, "the thing", lambda: False) as mine:
        assert mine and said == []


def test_a_silent_worker_of_another_host_is_waited_for_until_the_grace_is_over(path: str) -> None:
    study, said = study_at(path), []
    claim(study, "elsewhere/12/abcdef01")
    start = time.monotonic()
    with claims_of(study, said, grace=0.3).turn(NAME, "the thing", lambda: False) as mine:
        assert mine and time.monotonic() - start >= 0.3
    assert len(said) == 1 and "elsewhere/12" in said[0] and "the thing" in said[0]


def test_a_claim_that_changes_is_waited_for(path: str) -> None:
    study = study_at(path)
    claim(study, "elsewhere/12/abcdef01")

    def elsewhere() -> None:
        other = study_at(path)
        for beat in range(1, 9):
            time.sleep(0.1)
            claim(other, "elsewhere/12/abcdef01", beat)
        other.set_user_attr("result", 1)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    with claims_of(study, grace=0.45).turn(NAME, "the thing", lambda: is_done(study)) as mine:
        assert not mine
    thread.join()


def test_a_claim_changes_while_its_worker_works_and_is_given_back_after_an_error(path: str) -> None:
    study = study_at(path)
    with suppress(ZeroDivisionError), claims_of(study, beat=0.02).turn(NAME, "the thing", lambda: False):
        beats = set()
        while len(beats) < 3:
            beats.add(study.user_attrs[NAME + CLAIM]["beat"])
        _ = 1 / 0
    assert study.user_attrs[NAME + CLAIM] == {}
    threads = {thread.name for thread in threading.enumerate()}
    assert not any("_renew" in name for name in threads)


def test_the_last_writer_wins(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_at(path)
    pause = time.sleep

    def overtaken(seconds: float) -> None:
        monkeypatch.setattr(claims_module.time, "sleep", pause)
        claim(study, "elsewhere/12/abcdef01")
        study.set_user_attr("result", 1)

    monkeypatch.setattr(claims_module.time, "sleep", overtaken)
    with claims_of(study).turn(NAME, "the thing", lambda: is_done(study)) as mine:
        assert not mine


def test_alone_in_memory_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(claims_module.time, "sleep", slept.append)
    with claims_of(study_at(None)).turn(NAME, "the thing", lambda: False) as mine:
        assert mine
    assert slept == [0.0]


def test_sqlite_is_not_written_by_a_second_thread(tmp_path: Path) -> None:
    study = study_at(f"sqlite:///{tmp_path}/study.db")
    with claims_of(study, beat=0.01).turn(NAME, "the thing", lambda: False) as mine:
        assert mine
        time.sleep(0.1)
        assert study.user_attrs[NAME + CLAIM]["beat"] == 0
        # A second worker on this host is told by its process that the first one lives.
        said: list[str] = []
        end = time.monotonic() + 0.3
        late = claims_of(study, said, grace=0.0)
        with late.turn(NAME, "the thing", lambda: time.monotonic() > end) as theirs:
            assert not theirs and len(said) == 1
