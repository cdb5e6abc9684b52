"""A walk chooses the cheapest removal, lazily or not, and continues from where it was stored."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from autoprune.errors import StudyError
from autoprune.graph import CostModel
from autoprune.searching.space import Space, make_space
from autoprune.searching.stored import StoredWalk, read_path
from autoprune.searching.strategies.removal_walk import RemovalWalk, Rule
from tests.small import NETWORKS, graph_of


def space_of(network: str = "residual", **how: float) -> Space:
    small = NETWORKS[network]
    model, image = small.model(), small.images(1)
    graph = graph_of(model, image)
    return make_space(graph, CostModel(model, graph, (image,)), **{"min_kept": 0.1, **how})


def rule(whole_network: bool = True, lazy: bool = True, per_cost: bool = False) -> Rule:
    return Rule(whole_network=whole_network, lazy=lazy, per_cost=per_cost)


class Additive:
    """A loss that is a sum of convex curves: no removal ever makes another one cheaper."""

    def __init__(self, space: Space) -> None:
        rng = np.random.default_rng(3)
        self.space, self.calls = space, 0
        self.curves = [rng.exponential() * np.linspace(1, 0, w + 1) ** 2 for w in space.dense]

    def __call__(self, counts: np.ndarray, group: int) -> float:
        self.calls += 1
        return float(sum(curve[count] for curve, count in zip(self.curves, counts, strict=True)))


def path(walk: RemovalWalk, steps: int = 1000) -> list[list[int]]:
    found = [walk.counts.tolist()]
    while len(found) <= steps and walk.step():
        found.append(walk.counts.tolist())
    return found


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_each_step_takes_the_batch_from_one_group_down_to_the_floor(batch: int) -> None:
    space = space_of(min_kept=0.3)
    found = path(RemovalWalk(space, batch, Additive(space), rule()))
    for before, after in pairwise(found):
        changed = [(b, a, int(o[0])) for b, a, o in zip(before, after, space.options, strict=True) if b != a]
        assert len(changed) == 1
        width, narrower, floor = changed[0]
        assert narrower == max(width - batch, floor)
    assert found[0] == space.dense.tolist() and found[-1] == space.floor.tolist()


def test_every_step_is_the_cheapest_and_lazy_finds_the_same_with_fewer_assessments() -> None:
    space = space_of()
    swept, lazily = Additive(space), Additive(space)
    every = path(RemovalWalk(space, 2, swept, rule(lazy=False)))
    assert path(RemovalWalk(space, 2, lazily, rule())) == every
    assert lazily.calls < 0.7 * swept.calls
    judge = Additive(space)
    for before, after in pairwise(every):
        assert judge(np.array(after), 0) == pytest.approx(min(_tried(space, judge, before, 2)))


def _tried(space: Space, judge: Additive, counts: list[int], batch: int) -> list[float]:
    values = []
    for g, option in enumerate(space.options):
        if counts[g] > option[0]:
            tried = np.array(counts)
            tried[g] = max(counts[g] - batch, int(option[0]))
            values.append(judge(tried, g))
    return values


def test_a_layer_s_own_error_is_compared_as_it_is() -> None:
    space = space_of()
    curves = [np.linspace(1, 0, w + 1) * (g + 1) for g, w in enumerate(space.dense)]
    walk = RemovalWalk(space, 1, lambda counts, g: float(curves[g][counts[g]]), rule(whole_network=False))
    while walk.step():
        taken = [curve[count] for curve, count in zip(curves, walk.counts, strict=True)]
        # The greatest error so far is no greater than the least that was left standing.
        left = [c[n - 1] for c, n, o in zip(curves, walk.counts, space.options, strict=True) if n > o[0]]
        assert max(taken) <= min(left, default=np.inf) + 1e-9
    assert walk.value == 0.0


def test_per_cost_takes_what_saves_most_where_damage_is_equal() -> None:
    space = space_of()
    walk = RemovalWalk(space, 1, lambda counts, g: float((space.dense - counts).sum()), rule(per_cost=True))
    macs = []
    for group in range(len(space.names)):
        counts = space.dense
        counts[group] -= 1
        macs.append(int(space.costs(counts[None])["macs"][0]))
    assert walk.step()
    assert int(space.costs(walk.counts[None])["macs"][0]) == min(macs)


def test_a_removal_that_helps_is_taken_first() -> None:
    space = space_of()
    walk = RemovalWalk(space, 1, lambda counts, g: -1.0 if counts[2] < space.dense[2] else 0.0, rule())
    assert walk.step() and walk.counts[2] == space.dense[2] - 1 and walk.value == -1.0


@pytest.mark.parametrize("lazy", [True, False])
def test_a_stored_walk_continues_as_if_never_stopped(lazy: bool) -> None:
    space = space_of()
    whole = RemovalWalk(space, 1, Additive(space), rule(lazy=lazy))
    expected = path(whole)
    part = RemovalWalk(space, 1, Additive(space), rule(lazy=lazy))
    found = path(part, steps=7)
    stored = json.loads(json.dumps(part.to_json(), allow_nan=False))
    judge = Additive(space)
    rest = RemovalWalk(space, 1, judge, rule(lazy=lazy), StoredWalk.model_validate(stored))
    assert found + path(rest)[1:] == expected
    assert rest.assessments == whole.assessments
    assert judge.calls == rest.assessments - part.assessments


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
@pytest.mark.parametrize("whole_network", [True, False])
def test_what_breaks_the_network_goes_last(value: float, whole_network: bool) -> None:
    space = space_of()
    sound, limit = Additive(space), space.dense[0] - 2

    def assess(counts: np.ndarray, group: int) -> float:
        return value if counts[0] <= limit else sound(counts, group)

    found = path(RemovalWalk(space, 1, assess, rule(whole_network=whole_network)))
    assert found[-1] == space.floor.tolist()
    broken = next(number for number, counts in enumerate(found) if counts[0] <= limit)
    assert found[broken - 1][1:] == space.floor.tolist()[1:]


def test_a_walk_that_others_wrote_is_checked() -> None:
    space = space_of()
    walk = RemovalWalk(space, 1, Additive(space), rule())
    walk.step()
    stored = {"passed": [walk.counts.tolist()], "walk": walk.to_json()}
    assert read_path(json.loads(json.dumps(stored)), space).passed == stored["passed"]
    wide, short = (space.dense + 1).tolist(), walk.counts.tolist()[1:]
    for changed in (
        [1],
        {"passed": {}},
        {"passed": [wide]},
        {"passed": [short]},
        {"walk": {**walk.to_json(), "counts": wide}},
        {"walk": {**walk.to_json(), "damage": []}},
        {"walk": {**walk.to_json(), "value": float("nan")}},
        {"walk": {"counts": walk.counts.tolist()}},
    ):
        with pytest.raises(StudyError, match="the removal walk of the study is damaged"):
            read_path(changed, space)
