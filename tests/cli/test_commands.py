"""What each command prints, and how it fails."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from autoprune.cli.options import read_study
from autoprune.config import StudyConfig, load_study
from autoprune.errors import StudyError
from autoprune.plan import load
from autoprune.session import Session

Invoke = Callable[..., Result]
Document = Callable[..., Any]
Python = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = ["search", "front", "build", "evaluate", "groups"]


def assert_refused(result: Result | subprocess.CompletedProcess[str], *parts: str) -> None:
    code = result.exit_code if isinstance(result, Result) else result.returncode
    lines = result.stderr.strip().splitlines()
    assert code == 2, result.stderr
    assert not result.stdout
    assert lines[-1].startswith("error: ") and "Traceback" not in result.stderr
    assert all(part in lines[-1] for part in parts), lines[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(invoke: Invoke, command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"Example: autoprune {command}" in " ".join(result.stdout.split())
    assert all(option in result.stdout for option in ("--json", "--quiet", "--device", "--storage"))


def test_front_json_has_the_promised_fields(document: Document) -> None:
    found = document("front", "tiny.toml")
    assert set(found) == {"study", "metric", "dense", "front", "fidelity"}
    assert {"macs", "params", "accuracy"} <= set(found["dense"])
    promised = (
        "trial macs macs_ratio params params_ratio accuracy accuracy_before_reconstruction widths rates "
        "batch_removal criterion"
    )
    assert all(set(promised.split()) <= set(point) for point in found["front"])
    macs = [point["macs"] for point in found["front"]]
    assert macs == sorted(macs) and macs


def test_front_needs_neither_model_nor_data(
    invoke: Invoke, folder: Path, tmp_path: Path, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "tiny.toml").read_text()
    (tmp_path / "moved.toml").write_text(text.replace("tiny_network:", "gone:").replace("digits", "gone"))
    assert document("front", tmp_path / "moved.toml") == document("front", "tiny.toml")
    for columns, wide in ((80, False), (160, True)):
        monkeypatch.setattr("autoprune.cli.tables.width", partial(int, columns))
        table = invoke("front", "tiny.toml").stdout
        assert ("batch removal" in table) == wide, "a narrow terminal does without what matters least"
        assert ("'before'" in table) == wide, "and says nothing of columns that it lacks"
        assert all(word in table for word in ("trial", "MACs", "of dense", "params", "dense", "%"))
        assert "\u2026" not in table, "nothing is cut off"


def test_search_again_continues_to_the_total(document: Document) -> None:
    before = document("front", "tiny.toml")
    assert document("search", "tiny.toml") == before
    assert document("search", "tiny.toml", "--trials", "2", "--timeout", "9") == before


def test_options_override_the_study_file(folder: Path) -> None:
    config = read_study(folder / "tiny.toml", storage="other.journal", trials=9, seed=4)
    assert (config.storage, config.search.trials, config.search.seed) == ("other.journal", 9, 4)
    assert read_study(folder / "tiny.toml") == load_study(folder / "tiny.toml")


def test_build_then_evaluate(document: Document, invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    built = document("build", "tiny.toml", "--macs", "0.9", "--params", "0.95", "--out", tmp_path / "p")
    assert built["macs_ratio"] <= 0.9 and built["params_ratio"] <= 0.95
    measured = document("evaluate", "tiny.toml", "--plan", tmp_path / "p")
    assert set(measured) == {"metric", "accuracy", "images", "split", "macs", "params"}
    expected = {"metric": "accuracy", "accuracy": built["accuracy"], "images": 64, "split": "validation"}
    assert measured == {**expected, "macs": built["macs"], "params": built["params"]}
    network = load(importlib.import_module("tiny_network").make(), tmp_path / "p")
    assert sum(parameter.numel() for parameter in network.parameters()) == built["params"]
    text = invoke("evaluate", "tiny.toml", "--plan", tmp_path / "p", "--split", "test").stdout
    assert "test images" in text and f"{built['macs']:,} MACs" in text


def test_evaluate_without_a_plan_measures_the_dense_network(document: Document) -> None:
    dense = document("front", "tiny.toml")["dense"]
    measured = document("evaluate", "tiny.toml")
    assert {name: measured[name] for name in ("macs", "params", "accuracy")} == {
        name: dense[name] for name in ("macs", "params", "accuracy")
    }


def test_build_one_trial_by_force(document: Document, invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    trial = document("front", "tiny.toml")["front"][0]["trial"]
    assert_refused(invoke("build", "tiny.toml", "--trial", trial, "--out", tmp_path), "not empty", "--force")
    result = invoke("build", "tiny.toml", "--trial", trial, "--out", tmp_path, "--force", "-q")
    assert result.exit_code == 0 and f"trial {trial}" in result.stdout
    assert (tmp_path / "mine.txt").exists() and (tmp_path / "plan.json").exists()


def test_bad_requests_are_refused_before_the_model_is_loaded(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> Session:
        raise AssertionError("long work began")

    monkeypatch.setattr(Session, "open", never)
    out = tmp_path / "out"
    assert_refused(invoke("build", "tiny.toml", "--out", out), "--macs")
    assert_refused(invoke("build", "tiny.toml", "--out", out, "--trial", "1", "--macs", "0.5"), "--trial")
    assert_refused(invoke("build", "tiny.toml", "--out", out, "--trial", "99"), "no finished trial 99")
    assert_refused(invoke("build", "tiny.toml", "--out", out, "--macs", "1e-9"), "the least so far")
    assert_refused(invoke("evaluate", "tiny.toml", "--plan", out), "plan.json")
    assert_refused(invoke("front", "gone.toml"), "gone.toml")
    assert_refused(invoke("front", "tiny.toml", "--storage", tmp_path / "no.journal"), "no.journal")
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("trials = 6", "trails = 6"), ["trails", "did you mean 'trials'"]),
        (("[data]", "[data"), ["not valid TOML"]),
        (("tiny_network:make", "tiny_network:nothing"), ["nothing"]),
        (("tiny_network:make", "tiny_network:frozen"), ["prunable"]),
        (('"digits"', '"digit"'), ["did you mean 'digits'"]),
        (("[search]", '[search]\ncriterion = "momentum"'), ["criterion", "second-moment"]),
        (("[search]", "[search]\nbudget = { macs = 1e-6 }"), ["budget macs", "least"]),
        (("[search]", "[search]\nmin_kept = 0.5"), ["min_kept", "0.05", "0.5"]),
        (('"tiny.journal"', '"tiny_network.py/x.journal"'), ["storage"]),
        (('"tiny.journal"', '"postgresql://me:secret@nowhere/db"'), ["storage"]),
    ],
)
def test_a_bad_study_is_one_line(
    invoke: Invoke, folder: Path, tmp_path: Path, change: tuple[str, str], parts: list[str]
) -> None:
    text = (folder / "tiny.toml").read_text()
    assert change[0] in text
    (tmp_path / "bad.toml").write_text(text.replace(*change))
    result = invoke("search", tmp_path / "bad.toml", "-q")
    assert_refused(result, *parts)
    assert "secret" not in result.stderr


def test_usage_errors_have_exit_code_2(invoke: Invoke) -> None:
    for args in (["search"], ["search", "tiny.toml", "--trials", "0"], ["nothing"], ["front", "--nothing"]):
        result = invoke(*args)
        assert result.exit_code == 2 and not result.stdout


def test_an_unknown_device_is_refused(invoke: Invoke) -> None:
    assert_refused(invoke("search", "tiny.toml", "--device", "abacus"), "abacus")
    assert_refused(invoke("groups", "tiny.toml", "--device", "abacus"), "abacus")


def test_ctrl_c_says_that_the_same_command_continues(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> Session:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "open", interrupted)
    result = invoke("search", "tiny.toml", "--json")
    assert result.exit_code == 130 and not result.stdout
    assert "the same command continues" in result.stderr


def test_an_error_of_several_lines_becomes_one_without_passwords(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> Session:
        raise StudyError("no luck with\n  mysql://me:secret@host/db")

    monkeypatch.setattr(Session, "open", broken)
    result = invoke("search", "tiny.toml")
    assert_refused(result, "no luck with mysql://me:***@host/db")


def test_processes_keep_stdout_clean(python: Python, tmp_path: Path) -> None:
    found = python("-m", "autoprune", "evaluate", "tiny.toml", "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["split"] == "validation"
    assert "a factory that talks" in found.stderr
    build = ("-m", "autoprune", "build", "tiny.toml", "--macs", "1e-9", "--out", tmp_path / "o")
    assert_refused(python(*build), "the least so far")


def test_help_does_not_wait_for_torch(python: Python) -> None:
    assert python("-c", "import autoprune.cli, sys; sys.exit('torch' in sys.modules)").returncode == 0


def test_build_in_another_way_than_the_study(document: Document, tmp_path: Path) -> None:
    asked = ("--trial", "0", "--reconstruct", "casm", "--set", "steps=4", "--set", "scope=network")
    built = document("build", "tiny.toml", *asked, "--out", tmp_path / "p")
    measured = document("evaluate", "tiny.toml", "--plan", tmp_path / "p")
    assert measured["accuracy"] == built["accuracy"]
    plan = json.loads((tmp_path / "p" / "plan.json").read_text())
    assert plan["reconstruction"] == {"method": "casm", "options": {"steps": 4, "scope": "network"}}
    document("build", "tiny.toml", "--trial", "0", "--out", tmp_path / "q")
    plain = json.loads((tmp_path / "q" / "plan.json").read_text())
    assert "reconstruction" not in plain
    assert (tmp_path / "p" / "weights.safetensors").read_bytes() != (
        tmp_path / "q" / "weights.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--reconstruct", "casn"), ["did you mean 'casm'"]),
        (("--reconstruct", "casm", "--set", "step=4"), ["did you mean 'steps'"]),
        (("--reconstruct", "casm", "--set", "steps=many"), ["steps", "integer"]),
        (("--reconstruct", "casm", "--set", "steps"), ["OPTION=VALUE"]),
        (("--set", "steps=4"), ["--reconstruct"]),
    ],
)
def test_bad_reconstructions_are_refused(
    invoke: Invoke, tmp_path: Path, options: tuple[str, ...], parts: list[str]
) -> None:
    out = tmp_path / "out"
    assert_refused(invoke("build", "tiny.toml", "--trial", "0", *options, "--out", out), *parts)
    assert not out.exists()


def test_methods_lists_everything_with_its_source(document: Document, invoke: Invoke) -> None:
    found = document("methods")
    names = {(method["kind"], method["name"]) for method in found}
    assert names >= {
        *(("criterion", name) for name in ("omp", "fp-backward", "lrf", "similarity", "history")),
        *(("strategy", name) for name in ("knapsack", "fp-omp-search", "rate-derivation", "dispersion")),
        *(("reconstruction", name) for name in ("casm", "filters", "sequential")),
        *(("recovery", name) for name in ("fine-tune", "history", "none")),
    }
    assert all(method["summary"].endswith(".") and len(method["summary"]) < 160 for method in found)
    assert all(method["kind"] == "criterion" for method in document("methods", "criterion"))
    table = invoke("methods", "reconstruction").stdout
    assert "casm" in table and "Computation 2023" in table and "steps=250" in table
    assert_refused(invoke("methods", "criterions"), "did you mean 'criterion'")


def test_what_the_command_line_overrides_is_checked_at_once(invoke: Invoke, tmp_path: Path) -> None:
    elsewhere = ("--storage", str(tmp_path / "n.journal"))
    assert_refused(invoke("search", "tiny.toml", "--seed", 2**33, *elsewhere), "less than 4294967296")
    assert_refused(invoke("search", "tiny.toml", "--objective", "time", *elsewhere), "objective")
    assert not list(tmp_path.iterdir())


def test_another_objective_than_latency_needs_no_batch(folder: Path, tmp_path: Path) -> None:
    text = (folder / "tiny.toml").read_text()
    timed = text.replace("[search]", '[search]\nobjective = "latency"\nlatency_batch = 8')
    (tmp_path / "timed.toml").write_text(timed)
    assert read_study(tmp_path / "timed.toml").search.latency_batch == 8
    config = read_study(tmp_path / "timed.toml", objective="macs")
    assert StudyConfig.model_validate(config.model_dump()).search.latency_batch == 1


def test_commands_that_search_nothing_ask_nothing_of_the_search(
    folder: Path, document: Document, tmp_path: Path
) -> None:
    plan = tmp_path / "plan"
    document("build", "tiny.toml", "--trial", "0", "--out", plan)
    text = (folder / "tiny.toml").read_text()
    odd = 'objective = "params"\nmultiple_of = 4\nstrategy_options = { targets = [0.01] }'
    (tmp_path / "odd.toml").write_text(text.replace("[search]", f"[search]\n{odd}"))
    storage = ("--storage", folder / "tiny.journal")
    assert document("evaluate", tmp_path / "odd.toml", "--plan", plan)["macs"] > 0
    assert document("explain", tmp_path / "odd.toml", *storage, "--trial", "0")
    out = tmp_path / "a.safetensors"
    assert document("export", tmp_path / "odd.toml", "--plan", plan, "--to", "state-dict", "-o", out)
    short = ("--epochs", "1", "--images", "64", "--out", tmp_path / "tuned")
    assert document("finetune", tmp_path / "odd.toml", "--plan", plan, *short)["images"] == 64


def test_another_reconstruction_is_told_with_its_own_error(document: Document, tmp_path: Path) -> None:
    found = [
        document("build", "tiny.toml", "--trial", "0", "--out", tmp_path / str(i), *how)["output_error"]
        for i, how in enumerate([(), ("--reconstruct", "sequential"), ("--reconstruct", "none")])
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-3) and found[2] > 1.5 * found[0]


def test_a_redirected_front_has_all_columns(python: Python) -> None:
    # In a process of its own: a pipe has no width.
    told = python("-m", "autoprune", "front", "tiny.toml").stdout
    assert "before" in told and "criterion" in told


def test_a_storage_in_the_home_folder_is_found(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert "tiny" in invoke("studies", "--storage", "~/tiny.journal").stdout
