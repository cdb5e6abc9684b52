from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from autoprune.cli.groups import join_sizes

Invoke = Callable[..., Result]
Document = Callable[..., Any]

FACTORY = ("--factory", "tiny_network:make", "--input-size")


def test_a_study_and_its_factory_have_the_same_groups(document: Document) -> None:
    found = document("groups", "tiny.toml", "--check")
    assert [(group["name"], group["width"]) for group in found["groups"]] == [("0", 8), ("2", 6)]
    assert found["groups"][0]["producers"] == ["0"] and found["groups"][0]["consumers"] == ["2"]
    assert [frozen["name"] for frozen in found["frozen"]] == ["5"]
    assert "output" in found["frozen"][0]["reason"]
    assert 0 < found["least"]["macs"] < found["dense"]["macs"]
    assert not found["check"]["failed"] and found["check"]["relative_error"] < 1e-9
    assert document("groups", *FACTORY, "1", "8", "8", "--check") == found
    assert document("groups", *FACTORY, "1,8,8", "--check") == found


def test_a_network_without_groups_is_shown_with_reasons(document: Document, invoke: Invoke) -> None:
    args = ("groups", "--factory", "tiny_network:frozen", "--input-size", "1", "8", "8")
    found = document(*args)
    assert found["groups"] == [] and found["least"] == found["dense"]
    table = invoke(*args).stdout
    assert "0 prunable" in table and "network output" in table


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "either a study file or --factory"),
        (("tiny.toml", *FACTORY, "1", "8", "8"), "either a study file or --factory"),
        (FACTORY[:2], "--input-size 3 224 224"),
        ((*FACTORY, "1,8,x"), "got '1,8,x'"),
        ((*FACTORY, "0", "8", "8"), "positive"),
        ((*FACTORY, "3", "8", "8"), "trace"),
        (("--factory", "tiny_network:absent", "--input-size", "1", "8", "8"), "absent"),
    ],
)
def test_bad_requests(invoke: Invoke, args: tuple[str, ...], message: str) -> None:
    result = invoke("groups", *args)
    assert result.exit_code == 2 and message in result.stderr and not result.stdout


def test_sizes_end_at_the_next_word() -> None:
    assert join_sizes(["--input-size", "3", "8", "8", "a", "7"]) == ["--input-size", "3,8,8", "a", "7"]
    assert join_sizes(["--input-size=3", "8", "-q"]) == ["--input-size=3,8", "-q"]
    assert join_sizes(["a.toml", "--check"]) == ["a.toml", "--check"]
