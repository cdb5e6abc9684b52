"""Commands that look at a storage alone: studies, stop, dashboard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import optuna
import pytest
from typer.testing import Result

from autoprune.searching.study import stored_study
from autoprune.storing.marks import STOP, WORKER
from autoprune.storing.stopping import StopRequests
from autoprune.storing.storages import open_storage
from autoprune.storing.workers import new_worker

Invoke = Callable[..., Result]
Document = Callable[..., Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A journal that may be written to."""
    (tmp_path / "copy.journal").write_bytes((folder / "tiny.journal").read_bytes())
    return tmp_path / "copy.journal"


@pytest.mark.parametrize("command", ["studies", "stop", "dashboard"])
def test_help_has_an_example(invoke: Invoke, command: str) -> None:
    result = invoke(command, "--help")
    text = " ".join(result.stdout.split())
    assert result.exit_code == 0 and f"Example: autoprune {command}" in text
    assert "--json" in text and "--storage" in text


def test_studies_needs_neither_model_nor_data(
    document: Document, invoke: Invoke, folder: Path, tmp_path: Path
) -> None:
    text = (folder / "tiny.toml").read_text()
    (tmp_path / "moved.toml").write_text(text.replace("tiny_network:", "gone:").replace("digits", "gone"))
    (found,) = document("studies", tmp_path / "moved.toml")
    assert document("studies", "--storage", "tiny.journal") == [found]
    assert (found["study"], found["finished"], found["running"], found["workers"]) == ("tiny", 6, 0, [])
    front = document("front", "tiny.toml")
    assert found["dense_accuracy"] == front["dense"]["accuracy"]
    half = [point["accuracy"] for point in front["front"] if point["macs_ratio"] <= 0.5]
    assert found["best"]["accuracy"] == max(half)
    table = invoke("studies", "tiny.toml").stdout
    assert "tiny" in table and "last activity" in table and "remark" not in table


def test_studies_of_others_are_listed_as_such(invoke: Invoke, copied: Path) -> None:
    storage = open_storage(str(copied))
    optuna.create_study(storage=storage, study_name="theirs [bold]\x1b[31m")
    table = invoke("studies", "--storage", copied).stdout
    assert "2 studies" in table and "theirs [bold]" in table and "\x1b" not in table
    assert "not made by autoprune" in table


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["studies"], "--storage"),
        (["studies", "--storage", "none.journal"], "does not exist"),
        (["stop", "tiny.toml", "--storage", "none.journal"], "does not exist"),
        (["dashboard", "tiny.toml", "--storage", "none.journal"], "does not exist"),
    ],
)
def test_bad_requests_are_one_line(invoke: Invoke, args: list[str], part: str) -> None:
    result = invoke(*args)
    assert result.exit_code == 2 and not result.stdout
    assert result.stderr.startswith("error: ") and part in result.stderr


def test_stop_is_heard_by_the_workers(invoke: Invoke, document: Document, copied: Path) -> None:
    study = stored_study(str(copied), "tiny")
    watch = StopRequests(study)
    asked = ("stop", "tiny.toml", "--storage", copied)
    assert "no trial is running" in invoke(*asked).stdout and watch.asked()
    with new_worker() as worker:
        study.ask().set_user_attr(WORKER, worker)
        assert "1 trial is running and will be finished" in invoke(*asked).stdout
        assert document(*asked) == {"study": "tiny", "running": 1, "workers": [worker]}
    assert "no trial is running" in invoke(*asked).stdout


def test_stop_leaves_the_studies_of_others_alone(invoke: Invoke, copied: Path, tmp_path: Path) -> None:
    other = optuna.create_study(storage=open_storage(str(copied)), study_name="theirs")
    text = (copied.parent / "theirs.toml", Path("tiny.toml").read_text().replace('"tiny"', '"theirs"'))
    text[0].write_text(text[1])
    result = invoke("stop", text[0], "--storage", copied)
    assert result.exit_code == 2 and "was not made by autoprune" in result.stderr
    assert STOP not in other.user_attrs


def test_dashboard_serves_until_it_is_interrupted(folder: Path, copied: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="the extra 'dashboard' is not installed")
    command = [sys.executable, "-W", "error", "-m", "autoprune", "dashboard", "tiny.toml"]
    options = ["--storage", str(copied), "--port", "0", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, *options], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        text = b"".join(iter(process.stdout.readline, b"}\n")) + b"}"
        said = json.loads(text)
        assert said["study"] == "tiny" and said["written"] == ["front.json", "front.md"]
        with urlopen(said["url"].partition("/dashboard")[0] + "/api/studies", timeout=30) as answer:
            assert json.load(answer)["study_summaries"][0]["study_name"] == "tiny"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0 and errors.decode().strip() == "dashboard closed"
