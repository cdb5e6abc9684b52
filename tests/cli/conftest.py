"""A study small enough to be searched in seconds: an untrained network on a few digits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from autoprune.cli import app

torch.set_num_threads(1)

ROOT = Path(__file__).parents[2]
NETWORK = '''
import torch
from torch import nn

print("a factory that talks")


def make() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 10)
    )


def frozen() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
'''
STUDY = """
name = "tiny"
storage = "tiny.journal"
[model]
factory = "tiny_network:make"
[data]
dataset = "digits"
calibration_images = 32
validation_images = 64
[search]
trials = 6
batch_removal = [1]
"""

Invoke = Callable[..., Result]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of all commands, with a study that has been searched."""
    place = tmp_path_factory.mktemp("cli")
    (place / "tiny_network.py").write_text(NETWORK)
    (place / "tiny.toml").write_text(STUDY)
    before = Path.cwd()
    os.chdir(place)
    try:
        result = CliRunner().invoke(app, ["search", "tiny.toml", "--json"])
    finally:
        os.chdir(before)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["study"] == "tiny"
    return place


@pytest.fixture
def invoke(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command in the folder, in this process."""
    monkeypatch.chdir(folder)
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def document(invoke: Invoke) -> Callable[..., Any]:
    """Run a command with --json; its one document."""

    def run(*args: object) -> Any:
        result = invoke(*args, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.fixture
def python(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python in the folder, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, args)]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )

    return run
