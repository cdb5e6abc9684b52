"""The fidelity table: rungs against the measured accuracy, and how far any judge can get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fidelity
from candidates import open_session


def rows(noise: float, count: int = 400) -> list[dict[str, float]]:
    """Candidates whose halves agree but for noise; the proxy knows the true accuracy."""
    rng = np.random.default_rng(0)
    true = rng.normal(0.85, 0.01, count)
    halves = true + rng.normal(0, noise, (2, count))
    return [
        {"proxy": -float(t), "accuracy": float((a + b) / 2), "A": float(a), "B": float(b), "macs_ratio": 0.5}
        for t, a, b in zip(true, *halves, strict=True)
    ]


@pytest.mark.parametrize("noise", [0.002, 0.01, 0.02])
def test_the_ceiling_is_what_a_judge_reaches_that_knows_the_true_accuracy(noise: float) -> None:
    found = rows(noise)
    reached = fidelity.correlations(found)["proxy"].correlation
    assert fidelity.ceiling(found) == pytest.approx(reached, abs=0.05)


def test_halves_and_costs_are_no_rungs() -> None:
    found = fidelity.correlations(rows(0.01))
    assert set(found) == {"proxy"}
    assert "proxy" in fidelity.table(rows(0.01), found)


def test_halves_that_disagree_leave_no_ceiling() -> None:
    contrary = [{"A": float(i), "B": -float(i)} for i in range(9)]
    assert fidelity.ceiling(contrary) == 0.0


def test_rungs_judge_and_a_small_network_ends_with_the_candidates_it_has(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_session(str(study), images=64).engine
    judged = fidelity.Rungs(engine, [16])
    counts = next(fidelity.candidates(engine, 0.6, 1, seed=0))
    row = judged(counts)
    assert -row[fidelity.named(16)] <= 1 and row["A"] + row["B"] == pytest.approx(2 * row["accuracy"])
    monkeypatch.setattr(fidelity, "ATTEMPTS", 1)
    assert len(list(fidelity.candidates(engine, 0.6, 40, seed=0))) < 40
