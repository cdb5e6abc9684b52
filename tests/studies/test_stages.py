from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import stages
from stages import BETWEEN, FILES, OPERATORS, OTHER, WORK, by_stage, outside, profiled, stage_of


def computing(seconds: float) -> None:
    """Keeps the processor busy for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        # Many calls would be taken off for what a profile adds to them.
        sum(range(10_000))


def test_every_stage_of_work_is_one_that_functions_can_belong_to() -> None:
    assert set(WORK) <= {*OPERATORS, *FILES}


@pytest.mark.parametrize(
    ("function", "stage"),
    [
        (("~", 0, "<built-in method torch.conv2d>"), "convolutions and linear layers"),
        (("~", 0, "<built-in method torch._C._nn.linear>"), "convolutions and linear layers"),
        (("~", 0, "<built-in method torch._C._linalg.linalg_cholesky_ex>"), "Cholesky and solve"),
        (("~", 0, "<built-in method torch.matmul>"), "matrix products"),
        (("~", 0, "<built-in method torch.bmm>"), "matrix products"),
        (("~", 0, "<built-in method torch.relu>"), BETWEEN),
        (("~", 0, "<method 'clone' of 'torch._C.TensorBase' objects>"), BETWEEN),
        (("~", 0, "<built-in method torch._C._get_tracing_state>"), "forward pass, the rest"),
        (("~", 0, "<built-in method builtins.len>"), None),
        (("/x/autoprune/calibration/columns.py", 9, "raw_columns"), "patch extraction"),
        (("/x/autoprune/searching/strategies/knapsack.py", 9, "sampler"), "strategy proposals"),
        (("C:\\x\\optuna\\storages\\journal.py", 9, "sync"), "ask, tell and storage"),
        (("/x/json/decoder.py", 9, "decode"), None),
    ],
)
def test_functions_belong_to_stages(function: stages.Function, stage: str | None) -> None:
    assert stage_of(function) == stage


def test_what_has_no_stage_counts_for_its_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "FILES", {"here": ("test_stages",)})

    def work() -> None:
        computing(0.03)
        json.loads("[1, 2]")

    stats = profiled(work)
    times = by_stage(stats)
    assert times["here"] >= 0.02
    assert sum(times.values()) <= stats.total_tt  # type: ignore[attr-defined]
    monkeypatch.setattr(stages, "FILES", {})
    assert by_stage(profiled(work))[OTHER] >= 0.02


def test_what_a_profile_adds_to_calls_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "FILES", {"here": ("test_stages",)})
    stats = profiled(lambda: computing(0.03))
    monkeypatch.setattr(stages, "cost_of_a_call", lambda: 0.0)
    whole = by_stage(stats)["here"]
    monkeypatch.setattr(stages, "cost_of_a_call", lambda: 1.0)
    assert by_stage(stats)["here"] == 0.0 < whole


def test_the_cost_of_a_call_is_small_and_positive() -> None:
    assert 0 < stages.cost_of_a_call() < 1e-4


def test_a_forward_pass_is_all_work_and_a_pause_is_none() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)).eval()
    images = torch.randn(64, 3, 32, 32)
    times = by_stage(profiled(lambda: network(images)))
    assert {"convolutions and linear layers", "batch norm"} <= set(times)
    assert outside(times) < 0.5 < outside({OTHER: 2.0, "batch norm": 1.0})


def test_operators_count_with_the_work_that_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(1_000_000)

    def work() -> None:
        for _ in range(20):
            torch.sin(values)

    stats = profiled(work)
    here = {"batch norm": ("test_stages",)}
    monkeypatch.setattr(stages, "FILES", here)
    assert BETWEEN not in by_stage(stats) or by_stage(stats)[BETWEEN] == 0.0
    monkeypatch.setattr(stages, "FILES", {"taps and reconstruction": here["batch norm"]})
    between = by_stage(stats)
    assert between[BETWEEN] > 0.8 * sum(between.values())
    assert outside(between) < 0.2 < 0.8 < outside(between, WORK)


def test_threads_are_seen_and_waiting_for_them_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "FILES", {"here": ("test_stages",)})

    def work() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(computing, 0.05).result()
            pool.submit(time.sleep, 0.5).result()

    assert 0.04 <= sum(by_stage(profiled(work)).values()) < 0.3


def test_a_thread_that_still_waits_at_the_end_takes_no_time() -> None:
    computing(0.5)
    with ThreadPoolExecutor(1) as pool:
        assert sum(by_stage(profiled(lambda: pool.submit(computing, 0.01).result())).values()) < 0.3
