"""Studies with a recovery, from the command line: searched, continued, built and evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import Result

from tests.cli.conftest import STUDY

Invoke = Callable[..., Result]
TRAINED = STUDY.replace('"tiny', '"trained').replace("trained_network", "tiny_network")
TRAINED += """
criterion = "history"
strategy = "history"
strategy_options = { share = [30, 20], tolerance = 1.0 }
[recovery]
method = "history"
options = { regularise_epochs = 1 }
[training]
epochs = 1
images = 128
distillation = 0.0
"""


def test_a_trained_network_is_built_as_it_was_measured(
    invoke: Invoke, document: Callable[..., Any], folder: Path
) -> None:
    (folder / "trained.toml").write_text(TRAINED)
    assert invoke("search", "trained.toml", "--trials", 1, "-q").exit_code == 0
    front = document("search", "trained.toml", "--trials", 2)
    assert (folder / "trained.journal.artifacts").is_dir()
    last = document("build", "trained.toml", "--trial", 1, "--out", "built")
    found = document("evaluate", "trained.toml", "--plan", "built")
    assert found["accuracy"] == last["accuracy"] and found["macs"] == last["macs"]
    assert last["macs"] < front["dense"]["macs"]


def test_a_lost_artifact_is_one_line(invoke: Invoke, folder: Path) -> None:
    (folder / "lost.toml").write_text(TRAINED.replace('"trained', '"lost'))
    assert invoke("search", "lost.toml", "--trials", 1, "-q").exit_code == 0
    for file in (folder / "lost.journal.artifacts").iterdir():
        file.unlink()
    result = invoke("build", "lost.toml", "--trial", 0, "--out", "again")
    assert result.exit_code == 2 and not result.stdout
    assert "missing; restore the folder of artifacts" in " ".join(result.stderr.split())
