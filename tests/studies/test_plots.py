from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import plots
from plots import Panel, Series


def panels() -> list[Panel]:
    x = [64, 128, 256]
    band = Series("with band", x, [1.0, 2.0, 4.0], low=[0.5, 1.0, 3.0], high=[2.0, 3.0, 5.0])
    styles = [Series(f"as {style}", x, [3.0, 2.0, 1.0], style=style) for style in ("steps", "dots", "dashes")]
    log = Panel(title="Growth", x_label="channels", y_label="seconds", series=[band, *styles], log=True)
    return [log, Panel(title="Empty", x_label="a", y_label="b")]


def test_a_plot_is_a_small_svg_with_its_words_and_repeats(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib draws the comparisons; pip install matplotlib")
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    plots.draw(panels(), first, title="Both")
    plots.draw(panels(), second, title="Both")
    assert first.read_bytes() == second.read_bytes()
    assert len(first.read_bytes()) < 60_000
    words = {"".join(element.itertext()).strip() for element in ET.parse(first).iter()}
    wanted = {"Both", "Growth", "channels", "seconds", "with band", "as steps", "as dots", "128"}
    assert wanted <= words


def test_without_matplotlib_the_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for attempt in (plots.require, lambda: plots.draw(panels(), tmp_path / "never.svg")):
        with pytest.raises(SystemExit, match="pip install matplotlib"):
            attempt()
    assert not list(tmp_path.iterdir())


def test_colours_and_marks_do_not_repeat_before_seven() -> None:
    assert len(set(plots.COLOURS)) == len(set(plots.MARKERS)) == 7
