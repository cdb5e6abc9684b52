from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoprune.cli.choosing import Ranking
from autoprune.cli.explain import spans
from autoprune.searching.front import RANKINGS
from autoprune.searching.study import read_front
from autoprune.session import Session
from tests.cli.conftest import Invoke

Document = Callable[..., Any]


def test_a_trial_group_by_group(document: Document, invoke: Invoke) -> None:
    point = document("front", "tiny.toml")["front"][0]
    dense = document("front", "tiny.toml")["dense"]
    found = document("explain", "tiny.toml", "--trial", point["trial"])
    assert {group["name"]: group["kept"] for group in found["groups"]} == point["widths"]
    assert sum(group["macs_saved"] for group in found["groups"]) == dense["macs"] - point["macs"]
    assert sum(group["params_saved"] for group in found["groups"]) == dense["params"] - point["params"]
    assert sum(group["share"] for group in found["groups"]) == pytest.approx(1)
    table = invoke("explain", "tiny.toml", "--trial", point["trial"], "-q").stdout
    assert f"trial {point['trial']}: accuracy" in table and f"{dense['macs'] - point['macs']:,}" in table


def test_the_storage_is_enough_where_asked(
    document: Document, invoke: Invoke, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> Session:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Session, "open", never)
    found = document("explain", "tiny.toml", "--macs", "0.9", "--stored")
    assert all(group["macs_saved"] is None and group["proxy"] is not None for group in found["groups"])
    assert "channels removed" in invoke("explain", "tiny.toml", "--macs", "0.9", "--stored").stdout
    for wrong, part in ((("--trial", "99"), "no finished trial 99"), ((), "--trial N"), (
        ("--trial", "0", "--macs", "0.5"), "leave out")):  # fmt: skip
        result = invoke("explain", "tiny.toml", *wrong)
        assert result.exit_code == 2 and part in result.stderr and not result.stdout


def test_a_network_can_be_chosen_by_its_output_error(document: Document, folder: Path) -> None:
    trials = read_front(str(folder / "tiny.journal"), "tiny").trials
    for by, best in (
        ("output-error", min(trials, key=lambda point: point.output_error)),
        ("accuracy", max(trials, key=lambda point: (point.accuracy, -point.macs))),
    ):
        found = document("explain", "tiny.toml", "--macs", "0.99", "--stored", "--by", by)
        assert found["trial"] == best.trial


def test_what_is_named_outright_is_not_ranked(invoke: Invoke, tmp_path: Path) -> None:
    for command in (
        ("explain", "tiny.toml", "--trial", "0"),
        ("build", "tiny.toml", "--trial", "0", "--out", tmp_path / "new"),
        ("export", "tiny.toml", "--trial", "0", "--to", "pt2", "-o", tmp_path / "new.pt2"),
        ("export", "tiny.toml", "--plan", tmp_path, "--to", "pt2", "-o", tmp_path / "new.pt2"),
    ):
        result = invoke(*command, "--by", "output-error")
        assert result.exit_code == 2 and "leave one out" in result.stderr and not result.stdout


def test_the_rankings_of_the_command_line_are_those_of_fronts() -> None:
    assert [ranking.value for ranking in Ranking] == list(RANKINGS)


def test_channels_are_listed_in_runs() -> None:
    assert spans([]) == "" and spans([4]) == "4" and spans([0, 3, 4, 5, 9]) == "0, 3-5, 9"
    assert spans([0, 2, 4, 6, 7], most=2) == "0, 2 and 3 more"
