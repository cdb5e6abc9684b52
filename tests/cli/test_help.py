"""--help teaches by an example that the command takes, and shells complete names without PyTorch."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from importlib import metadata

import pytest
import typer
from typer.testing import CliRunner

from autoprune.cli import app
from autoprune.cli.completing import (
    PLACES,
    complete_backends,
    complete_kinds,
    complete_reconstructions,
    names,
)
from autoprune.methods import TABLES
from autoprune.working.backends import BACKENDS

GROUP = typer.main.get_group(app)


@pytest.mark.parametrize("command", list(GROUP.commands))
def test_the_example_of_every_command_is_one_that_it_takes(command: str) -> None:
    text = " ".join(CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert f"Example: autoprune {command}" in text
    lines = [line.strip() for line in (GROUP.commands[command].help or "").splitlines()]
    example = next(line for line in lines if line.startswith("Example: autoprune "))
    name, *arguments = shlex.split(example.removeprefix("Example: autoprune "))
    assert name == command
    GROUP.commands[command].make_context(command, arguments)


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.stdout == f"autoprune {metadata.version('autoprune')}\n"


def test_names_in_the_source_are_those_of_the_tables() -> None:
    assert {kind: list(names(kind)) for kind in PLACES} == {kind: list(TABLES[kind]) for kind in TABLES}
    assert complete_kinds("re") == ["reconstruction", "recovery"]
    assert complete_reconstructions("ca") == ["casm"]
    assert sorted(complete_backends("")) == sorted(BACKENDS)


def test_a_shell_completes_without_waiting_for_torch(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    script = (
        "import os, sys; os.environ.update(_AUTOPRUNE_COMPLETE='complete_bash', COMP_CWORD='4', "
        "COMP_WORDS='autoprune build x.toml --reconstruct se'); from autoprune.cli import app\n"
        "try: app(prog_name='autoprune')\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = python("-c", script)
    assert done.stdout.split() == ["sequential", "False"], done.stderr
    assert "--install-completion" in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout


def test_sections_of_a_study_file_are_no_markup() -> None:
    text = CliRunner().invoke(app, ["finetune", "--help"], env={"COLUMNS": "200"}).stdout
    assert text.count("In place of [training]") == 3
