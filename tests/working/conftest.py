"""A study whose trials take a while, and searches of it in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from autoprune.config import StudyConfig, load_study
from autoprune.storing.storages import open_storage
from autoprune.storing.workers import lives_here

ROOT = Path(__file__).parents[2]
PATIENCE = 300
"""Seconds that anything here may take on a busy machine."""
NETWORK = """
import multiprocessing
import os
import sys
import time
from pathlib import Path

from torch import nn


def is_worker():
    return multiprocessing.current_process().name != "MainProcess" or "search" not in sys.argv


def meet(others):
    # However much later a worker starts, none goes on alone.
    meeting = Path(__file__).with_name("meeting")
    meeting.mkdir(exist_ok=True)
    (meeting / str(os.getpid())).touch()
    end = time.monotonic() + 120
    while len(list(meeting.iterdir())) < others and time.monotonic() < end:
        time.sleep(0.02)


def hold():
    # As long as the file is there, no forward pass gets on, and says so.
    here = Path(__file__).parent
    while (here / "hold").exists():
        (here / f"held-{os.getpid()}").touch()
        time.sleep(0.02)


class Slow(nn.Module):
    def forward(self, x):
        if is_worker():
            meet(int(os.environ.get("MEET", "0")))
        hold()
        time.sleep(float(os.environ.get("SLOW", "0")))
        return x


def make():
    print("a factory that talks")
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, stride=2), nn.ReLU(), nn.Conv2d(12, 10, 3), nn.ReLU(), nn.Flatten(), Slow(),
        nn.Linear(10, 10),
    )


def only_in_the_parent():
    if multiprocessing.current_process().name != "MainProcess":
        raise OSError("no weights here")
    return make()


def deadly():
    if multiprocessing.current_process().name != "MainProcess":
        os.kill(os.getpid(), 9)
    return make()
"""
STUDY = """
name = "slow"
storage = "slow.journal"
[model]
factory = "slow_network:make"
[data]
dataset = "digits"
calibration_images = 32
validation_images = 64
[search]
trials = 12
batch_removal = [1]
"""


class Searching:
    """An `autoprune search` that runs, in a process group of its own."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], seconds: float, meet: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment |= {"SLOW": str(seconds), "MEET": str(meet)}
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "autoprune", "search", "slow.toml", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def workers(self) -> list[int]:
        """Processes that signed the trials that run now."""
        running = trials_in(self.folder, TrialState.RUNNING)
        names = [str(trial.user_attrs.get("worker", "")) for trial in running]
        return sorted({int(name.split("/")[1]) for name in names if name})

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)

    def has_begun(self) -> bool:
        return len(trials_in(self.folder)) >= 2

    def hold(self) -> list[int]:
        """Hold all forward passes; the processes held in a trial, at least one: these trials cannot end."""
        (self.folder / "hold").touch()
        self.until(lambda: bool(self._held()))
        return self._held()

    def _held(self) -> list[int]:
        return [process for process in self.workers() if (self.folder / f"held-{process}").exists()]

    def says(self, text: str) -> bool:
        """Wait for a line of stderr with this text."""
        assert self.process.stderr is not None
        return any(text in line for line in self.process.stderr)

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def remove(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


Search = Callable[..., Searching]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the study."""
    (tmp_path / "slow_network.py").write_text(NETWORK)
    (tmp_path / "slow.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    # The module is found anew in each test's folder.
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_network", raising=False)
    return tmp_path


@pytest.fixture
def config(folder: Path) -> StudyConfig:
    return load_study(folder / "slow.toml")


@pytest.fixture
def search(folder: Path) -> Iterator[Search]:
    """Start a search with these arguments; a forward pass takes `seconds` and waits for `meet` workers."""
    started: list[Searching] = []

    def start(*arguments: str, seconds: float = 0.0, meet: int = 0) -> Searching:
        started.append(Searching(folder, arguments, seconds, meet))
        return started[-1]

    yield start
    for searching in started:
        searching.remove()


def trials_in(folder: Path, *states: TrialState) -> list[FrozenTrial]:
    """Stored trials in these states, COMPLETE by default; none before the study is there."""
    if not (folder / "slow.journal").exists():
        return []
    storage = open_storage(str(folder / "slow.journal"), create=False)
    try:
        study = optuna.load_study(storage=storage, study_name="slow")
    except KeyError:
        return []
    return study.get_trials(deepcopy=False, states=states or (TrialState.COMPLETE,))


def is_alive(process: int) -> bool:
    return lives_here(f"{socket.gethostname()}/{process}/worker")
