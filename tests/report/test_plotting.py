from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autoprune.errors import ConfigError
from autoprune.report import Content
from autoprune.report.plotting import check_picture, draw, write_plot

MakeContent = Callable[..., Content]
HEADS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", HEADS)
def test_the_same_front_gives_the_same_bytes(make_content: MakeContent, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    content, found = make_content(), []
    for name in "ab":
        write_plot(content, tmp_path / f"{name}{suffix}")
        found.append((tmp_path / f"{name}{suffix}").read_bytes())
    assert found[0] == found[1] and found[0].startswith(HEADS[suffix])


def test_every_trial_is_drawn(make_content: MakeContent) -> None:
    pytest.importorskip("matplotlib")
    content = make_content(trials=20)
    axes = draw(content).axes[0]
    assert len(axes.collections[0].get_offsets()) == 20
    assert len(axes.lines[0].get_xdata()) == len(content.front)


def test_a_name_is_no_formula(make_content: MakeContent, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    content = make_content(trials=0)
    object.__setattr__(content.front, "study", r"$\frac{$ </text>")
    write_plot(content, tmp_path / "front.svg")
    assert "&lt;/text&gt;" in (tmp_path / "front.svg").read_text()


def test_unknown_kinds_and_a_missing_extra_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"\.pdf, \.png, \.svg, got 'front.gif'"):
        check_picture(Path("front.gif"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'autoprune\[plot\]'"):
        check_picture(Path("front.svg"))
