from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
