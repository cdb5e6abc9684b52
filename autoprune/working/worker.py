"""One worker: a process, here or on a cluster, that opens the study and searches it to the end."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import optuna
import torch

from autoprune.config import StudyConfig
from autoprune.errors import AutopruneError, ConfigError
from autoprune.searching.running import never
from autoprune.session import Session
from autoprune.storing.stopping import request_stop
from autoprune.storing.storages import open_storage
from autoprune.working.division import device_for

_alone = threading.Lock()
"""Clusters may put two workers into one process; folder and threads are the process's, so they take turns."""


def work(
    study: Mapping[str, Any],
    *,
    run: str,
    index: int,
    device: str | None,
    threads: int | None,
    end: float | None,
    folder: str,
    parent: int | None,
) -> AutopruneError | None:
    """Search the study until it has its trials, it is stopped, or `end` (seconds since the epoch) is over.

    `study` is a StudyConfig's model_dump(), `index` this worker's number, `threads` torch's (None: as they
    are). Relative paths are relative to `folder` where this host has it. With `parent`, a process id, the
    worker ends after its trial when that process is gone. An error is returned, once the other workers of
    the run were asked to end, so that they keep what they have.
    """
    config, orphaned = StudyConfig.model_validate(study), _orphaned(parent)
    # What a user's factory prints is no result, and the parent's stdout may be a pipe that holds results.
    with _alone, _within(folder), _threads(threads), redirect_stdout(sys.stderr):
        try:
            _search(config, run, _place(device, index), end, orphaned)
        except AutopruneError as error:
            _end_run(config, run)
            return error
    if orphaned():
        _leave()
    return None


def _leave() -> None:
    # Nobody takes the result, and the pool's own process would wait for another task.
    os._exit(0)


def _search(
    config: StudyConfig, run: str, device: str | None, end: float | None, stop: Callable[[], bool]
) -> None:
    _check_journal(config.storage)
    storage = open_storage(config.storage, create=False)
    session = Session.open(config, device=device, storage=storage)
    timeout = None if end is None else max(0.0, end - time.time())
    session.search(timeout=timeout, stop=stop, run=run)


def _check_journal(storage: str) -> None:
    """A journal that is not there must not be made: this worker would search a study of its own."""
    if "://" not in storage and not Path(storage).exists():
        raise ConfigError(
            f"the worker on host '{socket.gethostname()}' finds no journal '{storage}'; a journal serves one "
            "host, so use a server (postgresql://, mysql://, redis://) for workers on several."
        )


def _end_run(config: StudyConfig, run: str) -> None:
    with suppress(AutopruneError, KeyError):
        storage = open_storage(config.storage, create=False)
        request_stop(optuna.load_study(storage=storage, study_name=config.name), run)


def _place(device: str | None, index: int) -> str | None:
    return device_for(device, index, torch.cuda.device_count())


def _orphaned(parent: int | None) -> Callable[[], bool]:
    return never if parent is None else lambda: os.getppid() != parent


@contextmanager
def _within(folder: str) -> Iterator[None]:
    before = os.getcwd()
    if os.path.isdir(folder):
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
