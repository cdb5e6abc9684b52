from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch

import latency
from autoprune.searching.front import Dense, Front, Point

ROOT = Path(__file__).parents[2]


def point(trial: int, predicted: float, measured: float, spread: float = 0.0) -> Point:
    return Point(
        trial=trial,
        macs=100 * trial,
        macs_ratio=trial / 10,
        params=trial,
        params_ratio=trial / 10,
        bytes=4 * trial,
        accuracy=trial / 10,
        accuracy_before_reconstruction=None,
        output_error=0.5,
        widths={"a": 3},
        rates={"a": 0.25},
        batch_removal=1,
        criterion="l1",
        kept={"a": torch.tensor([0, 1, 2])},
        latency_ms=measured,
        latency_spread_ms=spread,
        latency_predicted_ms=predicted,
    )


DENSE = Dense(macs=1000, params=10, bytes=40, accuracy=1.0, latency_ms=10.0, latency_spread_ms=0.1)


def test_the_correlation_is_that_of_ranks() -> None:
    rising = [point(n, float(n), float(n**3)) for n in range(1, 6)]
    assert latency.correlation(rising) == pytest.approx(1.0)
    falling = [point(n, float(-n), float(n**3)) for n in range(1, 6)]
    assert latency.correlation(falling) == pytest.approx(-1.0)
    assert latency.correlation(rising[:2]) is None
    assert latency.correlation([point(n, 2.0, float(n)) for n in range(1, 6)]) is None


def test_a_point_is_chosen_by_what_was_measured_with_its_spread() -> None:
    points = [point(1, 2.0, 2.0), point(2, 4.0, 4.9, 0.3), point(3, 4.0, 8.0)]
    found = latency.chosen(Front("s", DENSE, points, objective="latency"), [0.1, 0.5, 0.6])
    trials = {share: None if best is None else best.trial for share, best in found.items()}
    assert trials == {0.1: None, 0.5: 1, 0.6: 2}


def test_the_study_runs_to_its_record(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    out = tmp_path / "latency.json"
    arguments = ["--images", "64", "--trials", "4", "--budgets", "50", "--repeats", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["latency.py", str(study), *arguments])
    latency.main()
    found = json.loads(out.read_text())
    assert len(found["trials"]) == 4 and found["correlation"]["trials"]["n"] == 4
    (budget,) = found["budgets"]
    assert len(budget["fresh_ms"]) == 1 and budget["fresh_ms"][0] > 0
    assert "| budget ms |" in capsys.readouterr().out
