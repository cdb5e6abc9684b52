"""How times are taken; how long they are is nobody's business here."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.latency import Latency, Timer, timing
from autoprune.latency.place import alone, device_name, threads_set
from autoprune.latency.timing import example_batch


class Counting(nn.Module):
    """A convolution, one by its weight alone, and a count of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        assert not torch.is_grad_enabled() and torch.is_inference_mode_enabled()
        return F.linear(self.conv(x).relu().mean((2, 3)), self.weight)


def timer(threads: int = 1) -> Timer:
    return Timer(Inputs((torch.randn(1, 3, 8, 8),)), threads)


def clock(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float]) -> None:
    """Every call of the network takes `seconds(n)`: the clock is read before and after it."""
    reads, now = itertools.count(), [0.0]

    def read() -> float:
        number = next(reads)
        now[0] += seconds(number // 2) if number % 2 else 0.0
        return now[0]

    monkeypatch.setattr(timing.time, "perf_counter", read)


def test_median_and_quartiles() -> None:
    assert Latency.of([1.0, 2.0, 3.0, 4.0, 100.0]) == Latency(3.0, 2.0)
    assert Latency.of([2.0]) == Latency(2.0, 0.0)


def test_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, lambda call: 0.5 if call < 2 else 0.01)
    assert timer().whole(Counting().eval()).ms == pytest.approx(10.0)


def test_a_sitting_that_other_load_disturbed_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three calls of warm-up, then sittings of forty calls: the first of them is disturbed.
    clock(monkeypatch, lambda call: 0.02 if 3 <= call < 43 else 0.01)
    found = timer().whole(Counting().eval())
    assert found.ms == pytest.approx(10.0) and found.spread_ms == pytest.approx(0.0, abs=1e-6)


def test_a_machine_that_never_rests_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, lambda call: 0.01 * 1.01 ** (call % 997))
    network = Counting().eval()
    assert timer().whole(network).ms > 0
    assert network.calls <= timing.MOST_WARM_UPS + timing.MOST_SITTINGS * timing.MOST_REPEATS


def test_layers_are_timed_by_their_weights_wherever_they_are_used() -> None:
    found = timer().sample(Counting().eval(), {"conv": "conv.weight", "head": "weight", "gone": "none"})
    assert set(found.layers) == set(found.tails) == {"conv", "head"}
    counts = {len(times) for part in (found.layers, found.tails) for times in part.values()}
    assert counts == {len(found.whole)}
    assert all(time >= 0 for part in (found.layers, found.tails) for times in part.values() for time in times)


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    with threads_set(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    timer(before + 1).sample(Counting().eval(), {})
    assert torch.get_num_threads() == before


def test_a_batch_is_as_large_as_asked_and_laid_out_as_users_do() -> None:
    chunks = [Inputs((torch.randn(2, 3, 4, 4),)).channels_last(), Inputs((torch.randn(1, 3, 4, 4),))]
    for size in (1, 2, 3, 8):
        (tensor,) = example_batch(chunks, size).tensors
        assert len(tensor) == size and tensor.is_contiguous()


def test_a_measurement_excludes_others_and_leaves_no_lock() -> None:
    for _ in range(2):
        with alone():
            pass
    assert device_name(torch.device("cpu"))
