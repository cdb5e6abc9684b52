from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.searching.knapsack import solve


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_one_table_is_exact_at_every_capacity(data: st.DataObject) -> None:
    """Whole-number costs on a grid of whole numbers: no rounding, so brute force must agree."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    costs = [np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), float) for n in sizes]
    losses = [np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), float) for n in sizes]
    most = 30
    table = solve(losses, costs, float(most), bins=most)
    for capacity in range(most + 1):
        found = table.options(float(capacity))
        picks = itertools.product(*(range(n) for n in sizes))
        fits = [p for p in picks if sum(c[i] for c, i in zip(costs, p, strict=True)) <= capacity]
        if not fits:
            assert found is None
            continue
        best = min(sum(loss[i] for loss, i in zip(losses, p, strict=True)) for p in fits)
        assert found is not None and tuple(found) in fits
        assert sum(loss[i] for loss, i in zip(losses, found, strict=True)) == best


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 1.2))
def test_on_a_coarse_grid_a_solution_always_fits(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    costs = [np.sort(rng.random(5)) for _ in range(6)]
    losses = [np.sort(rng.random(5))[::-1] for _ in range(6)]
    capacity = share * sum(cost[-1] for cost in costs)
    found = solve(losses, costs, capacity, bins=50).options(capacity)
    if found is not None:
        assert sum(cost[i] for cost, i in zip(costs, found, strict=True)) <= capacity * (1 + 1e-9)
    if share >= 1.2:
        assert found is not None


def test_the_loss_never_rises_with_capacity() -> None:
    rng = np.random.default_rng(0)
    costs, losses = [rng.random(8) for _ in range(10)], [rng.random(8) for _ in range(10)]
    table = solve(losses, costs, 8.0)
    found = [table.options(capacity) for capacity in np.linspace(1.5, 8, 40)]
    totals = [sum(loss[i] for loss, i in zip(losses, p, strict=True)) for p in found if p is not None]
    assert len(totals) > 30 and totals == sorted(totals, reverse=True)


@pytest.mark.parametrize("capacity", [0.0, 1e-15])
def test_no_capacity(capacity: float) -> None:
    free = solve([np.array([3.0, 1.0])], [np.array([0.0, 1.0])], capacity)
    assert free.options(capacity) == [0]
    assert solve([np.array([3.0])], [np.array([1.0])], capacity).options(capacity) is None
