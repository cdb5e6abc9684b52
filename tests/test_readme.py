"""What the README shows must be true of the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from autoprune.cli import app
from autoprune.config import StudyConfig

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_study_file_is_valid_and_shows_the_defaults() -> None:
    text = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)[0]
    config = StudyConfig.model_validate(tomllib.loads(text))
    plain = StudyConfig.model_validate(
        {"name": config.name, "storage": config.storage, "model": config.model, "data": config.data}
    )
    assert config == plain


def test_the_commands_exist() -> None:
    shown = set(re.findall(r"`autoprune (\w+) STUDY", README))
    assert shown == {
        *("search", "front", "studies", "stop", "dashboard"),
        *("build", "evaluate", "explain", "finetune", "groups", "report", "plot", "export"),
    }
    assert all(CliRunner().invoke(app, [name, "--help"]).exit_code == 0 for name in shown)
