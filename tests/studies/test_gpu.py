from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

import gpu
from gpu import LIMIT, PARTS, rates


def test_the_share_of_the_limit_is_what_plain_passes_take_of_a_candidate() -> None:
    times = {**{part: [1.0, 2.0] for part in PARTS}, **{part: [0.75, 1.5] for part in LIMIT}}
    found = rates(times)
    assert found["share_of_limit"] == pytest.approx(0.5)
    assert found["candidates_per_second"] == pytest.approx(1 / 4.5)
    assert found["limit_candidates_per_second"] == pytest.approx(1 / 2.25)


def test_candidates_are_timed_on_the_processor(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    asked = [str(study), "--images", "32", "--candidates", "3", "--profile", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["gpu.py", *asked])
    gpu.main()
    found = json.loads(out.read_text())
    assert all(len(found["seconds"][part]) == 3 for part in (*PARTS, *LIMIT))
    assert found["images"] == {"calibration": 32, "validation": 32} and found["hardware"]["device"] == "cpu"
    own = [row["self_seconds"] for row in found["operators"]]
    assert 5 < len(own) <= gpu.TOP and own == sorted(own, reverse=True)
    assert sum(row["share"] for row in found["operators"]) <= 1
    assert "candidates per second" in capsys.readouterr().out


def options(study: Path, **changed: object) -> argparse.Namespace:
    settings = {"images": 32, "device": "cpu", "threads": 1, "candidates": 2, "workers": 2, **changed}
    return argparse.Namespace(study=str(study), **settings)


def test_processes_share_a_device(study: Path) -> None:
    found = gpu.together(options(study), limit=10.0)
    assert found["candidates_per_second"] == pytest.approx(10 * found["share_of_limit"])
    assert "of the limit" in gpu.together_line(found)


def test_a_process_that_fails_holds_nobody_up(study: Path) -> None:
    found = gpu.together(options(study, device="meta"), limit=10.0)
    assert "ended early" in gpu.together_line(found)
