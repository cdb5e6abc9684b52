"""The nearest candidate that nobody has measured, against every candidate of a small space."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from autoprune.searching.space import Space
from autoprune.searching.strategies.untaken import Key, nearest_untaken
from tests.searching.conftest import MakeEngine


@pytest.fixture
def space(make_engine: MakeEngine) -> Space:
    whole = make_engine("residual").space
    few = tuple(options[[0, len(options) // 2, -1]] for options in whole.options)
    return replace(whole, options=few).within({"macs": int(0.6 * whole.cost.dense_macs)})


def inside(space: Space, batches: list[int]) -> set[Key]:
    every = np.array(list(itertools.product(*space.options)))
    fits = every[space.excess(every) <= 0].tolist()
    return {(batch, *counts) for batch in batches for counts in fits}


@pytest.mark.parametrize("batches", [[1], [1, 4]])
def test_one_after_the_other_all_within_the_bounds_are_found(space: Space, batches: list[int]) -> None:
    start, taken = (1, *space.floor.tolist()), set[Key]()
    while (found := nearest_untaken(space, batches, start, taken, 0.0)) is not None:
        assert found not in taken
        taken.add(found)
    assert taken == inside(space, batches) and len(taken) > 20


def test_it_is_few_steps_away_and_of_those_nearest_in_cost(space: Space) -> None:
    start = (1, *space.floor.tolist())
    assert nearest_untaken(space, [1], start, set(), 0.0) == start
    found = nearest_untaken(space, [1], start, {start}, 1e12)
    assert found is not None and sum(a != b for a, b in zip(found, start, strict=True)) == 1
    one_step = [
        (1, *(options[1] if i == group else options[0] for i, options in enumerate(space.options)))
        for group in range(len(space.options))
    ]
    costs = space.objectives(np.array([key[1:] for key in one_step]))
    assert space.objectives(np.array([found[1:]]))[0] == costs.max()
