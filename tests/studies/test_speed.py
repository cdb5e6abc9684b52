from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import speed
from candidates import faster, knapsack_candidate, open_session
from speed import RATIOS, ratios


def test_ratios_are_made_of_neighbours_in_time() -> None:
    parts = {part for above, below in RATIOS.values() for part in (above, *below)}
    times = {part: [1.0, 2.0, 4.0] for part in parts}
    times["reconstruction"] = [3.0, 6.0, 20.0]
    found = ratios(times)
    assert found["reconstruction / dense"] == {"median": 3.0, "least": 3.0, "largest": 5.0}
    assert found["evaluation / sliced"]["median"] == 1.0
    assert found["candidate / both"]["median"] == 0.5, "two passes stand below the line"


def test_the_candidate_is_within_its_share_and_the_batches_are_all_images(study: Path) -> None:
    engine = open_session(str(study), images=32).engine
    kept = knapsack_candidate(engine, 0.5)
    macs = int(engine.cost.macs({name: len(channels) for name, channels in kept.items()}))
    assert 0.3 < macs / engine.cost.dense_macs <= 0.5
    name, batches = faster(engine.bench.model, engine.bench.chunks, torch.device("cpu"))
    assert name in ("fast batches", "chunks") and sum(batch.size for batch in batches) == 32


def test_one_run_gives_ratios_and_stages(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "speed.json"
    asked = [str(study), "--images", "32", "--repeats", "2", "--trials", "2", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["speed.py", *asked])
    speed.main()
    found = json.loads(out.read_text())
    assert set(found["parts"]["ratios"]) == set(RATIOS)
    assert all(len(times) == 2 and min(times) > 0 for times in found["parts"]["seconds"].values())
    stages = found["search"]["seconds"]
    wanted = {
        "convolutions and linear layers",
        "patch extraction",
        "Cholesky and solve",
        "ask, tell and storage",
    }
    assert wanted <= set(stages) and 0 < found["search"]["outside"] < 1
    shown = capsys.readouterr().out
    assert "| reconstruction / dense |" in shown and "outside forward passes" in shown
