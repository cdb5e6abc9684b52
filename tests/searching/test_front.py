from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoprune.errors import BudgetError, ConfigError, StudyError
from autoprune.searching.front import Dense, Front, Point

DENSE = Dense(macs=1000, params=100, bytes=400, accuracy=0.9)


def point(trial: int, macs: int, accuracy: float, params: int = 50) -> Point:
    return Point(
        trial=trial,
        macs=macs,
        macs_ratio=macs / 1000,
        params=params,
        params_ratio=params / 100,
        bytes=4 * params,
        accuracy=accuracy,
        accuracy_before_reconstruction=0.1,
        output_error=0.5,
        widths={"a": 3},
        rates={"a": 0.25},
        batch_removal=2,
        criterion="l1",
        kept={"a": torch.tensor([0, 1, 2])},
    )


trials = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=25).map(
    lambda pairs: [point(n, macs * 100, accuracy / 10) for n, (macs, accuracy) in enumerate(pairs)]
)


@given(trials)
def test_a_front_is_what_no_other_trial_beats(found: list[Point]) -> None:
    front = list(Front("s", DENSE, found))
    assert len(front) == len(Front("s", DENSE, found)) and [p.macs for p in front] == sorted(
        p.macs for p in front
    )
    for one in front:
        assert not any(
            o.macs <= one.macs
            and o.accuracy >= one.accuracy
            and (o.macs, o.accuracy) != (one.macs, one.accuracy)
            for o in found
        )
    for other in found:
        assert any(o.macs <= other.macs and o.accuracy >= other.accuracy for o in front)
    assert len({(p.macs, p.accuracy) for p in front}) == len(front)


@given(trials, st.integers(1, 1000))
def test_best_is_the_most_accurate_within_the_bound(found: list[Point], bound: int) -> None:
    front, inside = Front("s", DENSE, found), [p for p in found if p.macs <= bound]
    if inside:
        best = front.best(macs=bound if bound > 1 else 1000)
        assert best.macs <= bound or bound == 1
        assert best.accuracy == max(p.accuracy for p in (inside if bound > 1 else found))
    elif bound > 1:
        with pytest.raises(BudgetError):
            front.best(macs=bound)


def test_best_by_output_error_is_the_nearest_to_dense_within_the_bound() -> None:
    errors = (0.2, 0.1, math.nan, 0.05)
    made = [replace(point(n, 500, 0.5 + n / 10), output_error=error) for n, error in enumerate(errors)]
    front = Front("s", DENSE, [*made[:3], replace(made[3], macs=900)])
    assert front.best(macs=0.5).trial == 2
    assert front.best(macs=0.5, by="output-error").trial == 1
    assert front.best(by="output-error").trial == 3
    with pytest.raises(ConfigError, match="accuracy or output-error, got 'luck'"):
        front.best(macs=0.5, by="luck")


def test_best_within_several_bounds() -> None:
    found = [point(0, 400, 0.8, params=60), point(1, 450, 0.7, params=40), point(2, 900, 0.85, params=90)]
    front = Front("s", DENSE, found)
    assert front.best().trial == 2
    assert front.best(macs=0.5).trial == front.best(macs=500).trial == 0
    assert front.best(macs=0.5, params=0.5).trial == front.best(params=50).trial == 1
    assert front.best(macs=0.5, bytes=160).trial == 1
    assert front.best(macs=1.0).trial == 2
    with pytest.raises(BudgetError, match=r"macs <= 300.*the least so far: macs 400"):
        front.best(macs=0.3)
    with pytest.raises(BudgetError, match=r"macs <= 420, params <= 50.*macs 400, params 40"):
        front.best(macs=420, params=50)
    with pytest.raises(BudgetError, match="no finished trial yet"):
        Front("s", DENSE, []).best(macs=0.5)


def test_json_has_the_promised_keys_in_order_of_macs() -> None:
    front = Front("s", DENSE, [point(0, 900, 0.8), point(1, 400, 0.7), point(2, 500, 0.6)])
    document = json.loads(json.dumps(front.to_json(), allow_nan=False))
    assert set(document) == {"study", "metric", "dense", "front", "fidelity"}
    assert {"macs", "params", "accuracy"} <= set(document["dense"])
    assert [entry["trial"] for entry in document["front"]] == [1, 0]
    assert {
        "trial",
        "macs",
        "macs_ratio",
        "params",
        "params_ratio",
        "accuracy",
        "accuracy_before_reconstruction",
        "widths",
        "rates",
        "batch_removal",
        "criterion",
    } <= set(document["front"][0])
    assert document["front"][0]["widths"] == {"a": 3} and document["front"][0]["rates"] == {"a": 0.25}


def test_single_trials() -> None:
    front = Front("s", DENSE, [point(3, 900, 0.8)])
    assert front.of_trial(3).macs == 900
    with pytest.raises(StudyError, match="no finished trial 4"):
        front.of_trial(4)
    with pytest.raises(StudyError, match="without its model"):
        front.of_trial(3).build()


def test_json_has_nothing_for_what_is_no_number() -> None:
    broken = replace(point(0, 900, 0.8), output_error=math.nan, proxies={"additive": math.inf, "rung": 0.5})
    (entry,) = json.loads(json.dumps(Front("s", DENSE, [broken]).to_json(), allow_nan=False))["front"]
    assert entry["output_error"] is None and entry["proxies"] == {"additive": None, "rung": 0.5}


def test_points_by_their_places_on_the_front() -> None:
    front = Front("s", DENSE, [point(0, 900, 0.8), point(1, 400, 0.7), point(2, 500, 0.6)])
    assert [front[0].trial, front[-1].trial] == [1, 0]


@pytest.mark.parametrize("bound", ["x", True, 0, -1.0, math.nan])
def test_a_bound_must_be_a_positive_number(bound: Any) -> None:
    with pytest.raises(ConfigError, match="must be a positive number"):
        Front("s", DENSE, [point(0, 900, 0.8)]).best(macs=bound)


def test_a_bound_that_nothing_meets_is_told_as_it_is_measured() -> None:
    timed = replace(point(0, 400, 0.8), latency_ms=5.0, latency_spread_ms=0.5)
    dense = replace(DENSE, latency_ms=9.0, latency_spread_ms=0.1)
    with pytest.raises(BudgetError, match=r"latency_ms <= 5.20 \(median plus spread\); .*: latency_ms 5.50"):
        Front("s", dense, [timed]).best(latency_ms=5.2)
    bound = Front("s", dense, [timed], latency_bound=5.2)
    with pytest.raises(BudgetError, match=r"has latency_ms <= 5.20 .*: latency_ms 5.50"):
        bound.best()
    with pytest.raises(BudgetError, match=r"macs <= 500, latency_ms <= 5.20 .*: macs 400, latency_ms 5.50"):
        bound.best(macs=0.5, latency_ms=8.0)
    assert Front("s", dense, [timed], latency_bound=5.5).best(latency_ms=8.0).trial == 0
