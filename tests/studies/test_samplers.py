from __future__ import annotations

import json
from pathlib import Path

import pytest

import samplers
from autoprune.errors import ConfigError


def asked(study: Path, out: Path, *more: str) -> list[str]:
    lengths = ["--trials", "3", "--warm", "2", "--ours", "2"]
    sizes = ["--calibration", "32", "--validation", "32", "--unseen", "16", "--rung", "16", *lengths]
    return ["samplers.py", str(study), "--seeds", "0", *sizes, "--out", str(out), *more]


def test_contestants_of_several_processes_and_earlier_runs_stand_side_by_side(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    monkeypatch.setattr("sys.argv", asked(study, first, "--samplers", "nsga2", "--jobs", "2"))
    samplers.main()
    alone = json.loads(first.read_text())["records"]
    assert {samplers.label(run) for run in alone} == {"ours", "nsga2, cold", "nsga2, warm"}
    assert sorted(len(run["points"]) for run in alone) == [2, 2, 3]
    cold = ("--samplers", "random", "--warm", "0", "--ours", "0")
    monkeypatch.setattr("sys.argv", asked(study, second, *cold))
    samplers.main()
    assert {samplers.label(run) for run in json.loads(second.read_text())["records"]} == {"random, cold"}
    monkeypatch.setattr("sys.argv", asked(study, second, "--samplers", "random", "--records", str(first)))
    samplers.main()
    together = json.loads(second.read_text())["records"]
    assert together[: len(alone)] == alone
    last = capsys.readouterr().out.rpartition("| contestant")[2]
    assert "ours (2 seeds)" in last and "nsga2, cold (1 seeds)" in last and "random, warm (1 seeds)" in last


def test_a_process_more_changes_no_candidate(study: Path) -> None:
    settings = (str(study), 32, 32, 16, 16, "cpu")
    work = [(samplers.Contest("random", {"warm": False}, 3), seed) for seed in (0, 1)]
    alone = {run["seed"]: run["points"] for run in samplers.runs(settings, work, 1)}
    samplers.opened.cache_clear()
    assert {run["seed"]: run["points"] for run in samplers.runs(settings, work, 2)} == alone


def test_ours_may_measure_what_is_restored_more_thoroughly(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, how = tmp_path / "out.json", "joint:steps=2"
    monkeypatch.setattr("sys.argv", asked(study, out, "--samplers", "--measure", how))
    samplers.main()
    plain, thorough = json.loads(out.read_text())["records"]
    assert samplers.label(plain) == "ours" and samplers.label(thorough) == f"ours, {how}"
    # The first proposal of both is the same: no trial has told them apart yet.
    assert plain["candidates"][0] == thorough["candidates"][0]
    assert plain["points"][0] != thorough["points"][0] or plain["unseen"][0] != thorough["unseen"][0]
    assert "ours, joint:steps=2 (1 seeds)" in capsys.readouterr().out


def test_contestants_share_their_images() -> None:
    assert samplers.read_measure("joint:steps=2").method == "joint"
    with pytest.raises(ConfigError, match="share their calibration images"):
        samplers.read_measure("joint@300")
