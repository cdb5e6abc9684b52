"""Every example runs, in its smoke form, with warnings as errors, and is short."""

from __future__ import annotations

import re
import runpy
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
COMPARED = ("03_segmentation", "04_regression", "05_vision_transformer")


def run(path: Path) -> None:
    """In this process: to import PyTorch for each would take longer than what they do."""
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        if str(end.code).startswith("skipped: "):
            pytest.skip(str(end.code))
        raise


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_a_front(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if path.stem.startswith("06"):
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sys, "argv", [str(path), "--smoke"])
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run(path)
    found = capsys.readouterr().out
    assert re.search(r"at \d+% of the MACs", found), found
    lines = re.findall(r"^test: (front|uniform rates) \S+( %)? at (\S+)% of the MACs$", found, re.MULTILINE)
    assert len(lines) == (2 if path.stem in COMPARED else 0), found
    assert all(float(share) <= 50 for *_, share in lines)


def test_examples_are_short_and_numbered() -> None:
    assert [path.stem[:2] for path in EXAMPLES] == [f"{n:02d}" for n in range(1, len(EXAMPLES) + 1)]
    assert len(EXAMPLES) >= 6
    for path in (ROOT / "examples").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 60, path
        assert path.stem == "common" or f"python examples/{path.name}" in text
