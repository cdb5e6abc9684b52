"""Latency and several budgets on the command line. How long anything takes is never asserted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from autoprune.cli.choosing import requests
from autoprune.config import load_study
from autoprune.errors import ConfigError
from autoprune.plan import read_plan

Invoke = Callable[..., Result]
Document = Callable[..., Any]
TIMED = ("tiny.toml", "--storage", "timed.journal")


@pytest.fixture
def timed(folder: Path, document: Document) -> Any:
    """The front of a study that was searched with latency as its objective."""
    return document("search", *TIMED, "--objective", "latency", "--trials", "4")


def test_a_search_over_latency_shows_it(timed: Any, invoke: Invoke, document: Document) -> None:
    assert timed["objective"] == "latency" and timed["dense"]["latency_ms"] > 0
    assert all({"latency_ms", "latency_spread_ms", "latency_predicted_ms"} <= set(p) for p in timed["front"])
    assert document("front", *TIMED) == timed
    table = invoke("front", *TIMED).stdout
    assert "ms" in table and "spread" in table and "predicted" in table
    params = [point["params"] for point in document("front", *TIMED, "--cost", "params")["front"]]
    assert params == sorted(params) and params
    result = invoke("front", "tiny.toml", "--cost", "latency")
    assert result.exit_code == 2 and "did not time its networks" in result.stderr


def test_a_network_is_built_for_a_budget_of_latency(timed: Any, document: Document, tmp_path: Path) -> None:
    built = document("build", *TIMED, "--latency-ms", "1e6", "--out", tmp_path / "small")
    assert built["accuracy"] == max(point["accuracy"] for point in timed["front"])
    assert built["latency_ms"] > 0 and read_plan(tmp_path / "small").trial == built["trial"]
    exported = document(
        "export", *TIMED, "--latency-ms", "1e6", "--to", "state-dict", "-o", tmp_path / "a.safetensors"
    )
    assert exported["trial"] == built["trial"]


def test_a_budget_of_latency_out_of_reach_is_refused(timed: Any, invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("build", *TIMED, "--latency-ms", "1e-6", "--out", tmp_path / "small")
    assert result.exit_code == 2 and "latency_ms" in result.stderr and not (tmp_path / "small").exists()


def test_report_and_picture_of_a_timed_study(timed: Any, invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("report", *TIMED, "-o", tmp_path / "r.html").exit_code == 0
    assert "latency, share of the dense network" in (tmp_path / "r.html").read_text()
    pytest.importorskip("matplotlib")
    assert invoke("plot", *TIMED, "-o", tmp_path / "a.svg").exit_code == 0
    assert "latency, share of" in (tmp_path / "a.svg").read_text()
    assert invoke("plot", *TIMED, "--cost", "params", "-o", tmp_path / "b.svg").exit_code == 0
    assert "parameters, share of" in (tmp_path / "b.svg").read_text()


def test_several_budgets_are_built_at_once(invoke: Invoke, document: Document, tmp_path: Path) -> None:
    budgets = ("--macs", "0.9", "--macs", "0.6", "--params", "0.95")
    built = document("build", "tiny.toml", *budgets, "--out", tmp_path)["built"]
    assert [Path(one["out"]).name for one in built] == ["macs-0.9", "macs-0.6"]
    for one, macs in zip(built, (0.9, 0.6), strict=True):
        assert one["macs_ratio"] <= macs and one["params_ratio"] <= 0.95
        alone = document(
            "build", "tiny.toml", "--macs", macs, "--params", "0.95", "--out", tmp_path / "one" / str(macs)
        )
        assert {**alone, "out": one["out"]} == one
    again = invoke("build", "tiny.toml", *budgets, "--out", tmp_path)
    assert again.exit_code == 2 and "macs-0.9" in again.stderr


def test_one_impossible_budget_of_several_builds_none(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("build", "tiny.toml", "--macs", "0.9", "--macs", "1e-6", "--out", tmp_path)
    assert result.exit_code == 2 and not list(tmp_path.iterdir())


def test_requests() -> None:
    assert requests({"macs": [0.5], "params": None}, None) == {"macs-0.5": {"macs": 0.5}}
    near = requests({"macs": [20512345.0, 20512349.0]}, None)
    assert list(near) == ["macs-20512345", "macs-20512349"]
    assert requests({"macs": [0.5], "params": [0.7, 0.6]}, None) == {
        "params-0.7": {"params": 0.7, "macs": 0.5},
        "params-0.6": {"params": 0.6, "macs": 0.5},
    }
    assert requests({"latency_ms": [5.0, 2.5, 5.0]}, None) == {
        "latency-ms-5": {"latency_ms": 5.0},
        "latency-ms-2.5": {"latency_ms": 2.5},
    }
    assert requests({"macs": None}, 3) == {"trial-3": {}}
    nothing, both = {"macs": None}, {"macs": [1.0, 2.0], "params": [3.0, 4.0]}
    for given, trial in ((nothing, None), ({"macs": [0.5]}, 3), (both, None)):
        with pytest.raises(ConfigError):
            requests(given, trial)


def test_what_is_wrong_is_said_before_work(folder: Path, invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("search", *TIMED, "--objective", "beauty")
    assert result.exit_code == 2
    assert "search.objective: Input should be 'macs', 'params' or 'latency', got 'beauty'" in result.stderr
    text, study = (folder / "tiny.toml").read_text(), tmp_path / "changed.toml"
    for line, words in (
        ('objective = "speed"', "search.objective"),
        ("latency_batch = 8", "latency_batch is read where"),
        ("budget = { latency_ms = 0 }", "milliseconds above 0"),
        ("budget = { latency_ms = true }", "milliseconds above 0"),
    ):
        study.write_text(text + line + "\n")
        with pytest.raises(ConfigError, match=words):
            load_study(study)
    study.write_text(text + 'objective = "latency"\nlatency_batch = 8\nbudget = { latency_ms = 5.5 }\n')
    assert load_study(study).search.budget.bounds == {"latency_ms": 5.5}
