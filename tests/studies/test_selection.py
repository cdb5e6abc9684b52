from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import selection
from candidates import knapsack_candidate, open_session


def made(count: int) -> list[selection.Row]:
    """Candidates whose errors say exactly how accurate they are, and whose accuracies do not repeat."""
    rng = np.random.default_rng(0)
    rows = []
    for number, luck in enumerate(rng.permutation(count)):
        half = {"accA": number / count, "errA": 1 - number / count}
        full = {**half, "accB": number / count, "errB": half["errA"], "accA": float(luck) / count}
        full |= {"smoothA": full["accA"], "smoothB": full["accB"]}
        rows.append({"curves": {"additive": 1.0 - number}, "rung": full, "full": full})
    return rows


def test_what_says_the_accuracy_of_the_other_half_picks_its_best() -> None:
    rows = made(12)
    # Of all candidates, the best is always among them.
    found = selection.summary(rows, 12)
    assert found["output error"]["spearman"] > found["accuracy"]["spearman"]
    best = (11 / 12 + rows[11]["full"]["accA"]) / 2
    assert found["output error"]["picked"] == pytest.approx(best)
    assert selection.summary(rows, 1)["accuracy"]["picked"] == pytest.approx(5.5 / 12, abs=0.01)


def test_halves_together_are_the_whole(study: Path) -> None:
    engine = open_session(str(study), images=64).engine
    (row,) = selection.measured(engine, 0.6, 1, seed=0)
    measured = engine.evaluator.measure(knapsack_candidate(engine, 0.6))
    assert (row["full"]["accA"] + row["full"]["accB"]) / 2 == pytest.approx(measured.accuracy)
    network = engine.evaluator.restored(knapsack_candidate(engine, 0.6))
    smooth = engine.task.metric.smooth()  # type: ignore[attr-defined]
    assert (row["full"]["smoothA"] + row["full"]["smoothB"]) / 2 == pytest.approx(smooth(network))


def test_the_script_prints_a_table(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "selection.json"
    given = ["--macs", "0.6", "--candidates", "4", "--among", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["selection.py", str(study), *given])
    selection.main()
    assert "output error of the rung" in capsys.readouterr().out and out.exists()
