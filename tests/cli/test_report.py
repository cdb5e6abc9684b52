from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoprune.cli.report import beside
from autoprune.errors import ConfigError
from tests.cli.conftest import Invoke


def test_report_writes_a_page_with_the_commands_of_its_study(
    invoke: Invoke, document: Callable[..., Any], folder: Path
) -> None:
    found = document("report", "tiny.toml", "-o", "page.html")
    assert found["trials"] == 6 and found["out"] == "page.html"
    text = (folder / "page.html").read_text()
    assert (
        '"study_file":"tiny.toml"' in text and "calibration_images" in text and 'id="figure-curves"' in text
    )
    assert "6 finished trials" in invoke("report", "tiny.toml", "-o", "page.html").stdout


def test_plot_writes_a_picture(document: Callable[..., Any], folder: Path) -> None:
    pytest.importorskip("matplotlib")
    assert document("plot", "tiny.toml", "-o", "front.svg")["out"] == "front.svg"
    assert "</svg>" in (folder / "front.svg").read_text()


def test_errors_are_one_line(invoke: Invoke) -> None:
    for arguments in (("plot", "tiny.toml", "-o", "x.gif"), ("report", "tiny.toml", "-o", "no/where.html")):
        result = invoke(*arguments)
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1


def test_a_report_that_cannot_be_written_is_known_before_the_search(invoke: Invoke, folder: Path) -> None:
    result = invoke("search", "tiny.toml", "--storage", "fresh.journal", "--report", "no/where.html")
    assert result.exit_code == 2 and "report 'no/where.html' cannot be written" in result.stderr
    assert not (folder / "fresh.journal").exists()


def test_the_front_is_printed_before_the_report_is_written(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise ConfigError("the disk is full.")

    # Under its package's name there is the command.
    monkeypatch.setattr(sys.modules["autoprune.cli.search"], "write", full)
    result = invoke("search", "tiny.toml", "--json", "-q")
    assert result.exit_code == 2 and len(json.loads(result.stdout)["front"]) > 0


def test_studies_of_one_journal_have_reports_of_their_own() -> None:
    assert beside("a/tiny.journal", "tiny") == Path("a/tiny.html")
    assert beside("a/tiny.journal", "other/one two") == Path("a/tiny.other_one_two.html")
    assert beside("redis://host/0", "tiny") is None
