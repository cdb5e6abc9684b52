from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoprune.report import Content, read_content
from tests.report.conftest import NAME, MakeStudy


def test_budgets_are_shares_of_dense(make_content: Callable[..., Content]) -> None:
    assert make_content().budget == {"macs": 0.8, "params": 0.8}


@pytest.mark.parametrize(
    "stored", [None, 3, {"macs": "much"}, {"macs": -1}, {"hours": 2}, {"macs": float("inf")}]
)
def test_a_strange_budget_is_none(make_content: Callable[..., Content], stored: Any) -> None:
    assert make_content(IDENTITY={"budget": stored}).budget == {}


def test_curves_come_from_the_artifact(make_study: MakeStudy) -> None:
    path = make_study(profile=True)
    content = read_content(path, NAME)
    assert content.profile is not None
    assert {len(curve) - 1 for curve in content.profile.output_errors[1].values()} == {8, 16, 32}
    for file in Path(f"{path}.artifacts").iterdir():
        file.write_bytes(b"damaged")
    assert read_content(path, NAME).profile is None


def test_the_best_within_a_share_is_on_the_front(make_content: Callable[..., Content]) -> None:
    content = make_content(trials=40)
    for share in (0.01, 0.3, 0.6, 1.0):
        inside = [point.accuracy for point in content.front.trials if point.macs_ratio <= share]
        best = content.within(share)
        assert (best is None) == (not inside) and (best is None or best.accuracy == max(inside))
