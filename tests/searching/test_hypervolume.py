from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.searching.hypervolume import history, hypervolume

shares = st.floats(0, 1, allow_nan=False)
fronts = st.lists(st.tuples(shares, shares), max_size=8)


def test_known_areas() -> None:
    assert hypervolume([]) == 0
    assert hypervolume([(0.9, 0.5)], accuracy=0.1) == pytest.approx(0.8 * 0.5)
    assert hypervolume([(0.9, 0.5), (0.5, 0.25), (0.4, 0.3)]) == pytest.approx(0.9 * 0.5 + 0.5 * 0.25)
    assert hypervolume([(0.1, 0.5), (0.9, 1.0)], accuracy=0.1) == 0, "on the reference nothing is gained"


@given(points=fronts, more=st.tuples(shares, shares))
def test_a_further_point_never_takes_away_and_a_dominated_one_adds_nothing(
    points: list[tuple[float, float]], more: tuple[float, float]
) -> None:
    before, after = hypervolume(points), hypervolume([*points, more])
    assert after >= before - 1e-12
    if any(a >= more[0] and c <= more[1] for a, c in points):
        assert after == pytest.approx(before)


@given(points=fronts)
def test_it_is_the_area_that_a_grid_counts(points: list[tuple[float, float]]) -> None:
    grid = (np.arange(200) + 0.5) / 200
    a, c = np.meshgrid(grid, grid)
    covered = np.zeros_like(a, dtype=bool)
    for accuracy, cost in points:
        covered |= (a < accuracy) & (c > cost)
    assert hypervolume(points) == pytest.approx(covered.mean(), abs=0.02)


@given(points=fronts)
def test_the_history_ends_at_the_whole(points: list[tuple[float, float]]) -> None:
    found = history(points)
    assert len(found) == len(points) and (np.diff(found) >= -1e-12).all()
    assert not points or found[-1] == pytest.approx(hypervolume(points))
