"""No candidate of any strategy prunes a group more than its cap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autoprune.errors import BudgetError, ConfigError
from autoprune.searching.space import allowed_widths, make_space
from autoprune.searching.strategies import strategies
from tests.searching.conftest import MakeEngine

PLAIN = ["dispersion", "fp-omp-search", "knapsack", "random", "uniform"]


@pytest.mark.parametrize("strategy", PLAIN)
def test_caps_are_hard(strategy: str, make_engine: MakeEngine) -> None:
    assert strategy in strategies
    caps = {"stem*": 0.25, "a1*": 0.0}
    engine = make_engine("residual", strategy=strategy, trials=3, caps=caps, budget={"macs": 0.7})
    front = engine.search()
    widths = engine.graph.widths
    stem, block = (next(name for name in widths if name.startswith(part)) for part in ("stem", "a1"))
    assert len(front.trials) and all(point.macs_ratio <= 0.7 for point in front.trials)
    for point in front.trials:
        assert point.widths[stem] >= math.ceil(0.75 * widths[stem]) and point.widths[block] == widths[block]
    assert any(point.rates[name] > 0.25 for point in front.trials for name in widths)


def test_a_cap_raises_the_floor_and_never_lowers_it(make_engine: MakeEngine) -> None:
    engine = make_engine("residual")
    graph, cost = engine.graph, engine.cost
    for cap in (0.3, 0.5, 1.0):
        space = make_space(graph, cost, min_kept=0.4, multiple_of=2, caps=dict.fromkeys(graph.widths, cap))
        for name, option in zip(space.names, space.options, strict=True):
            assert np.array_equal(option, allowed_widths(graph.widths[name], max(0.4, 1 - cap), 2))
    with pytest.raises(BudgetError, match="caps"):
        dense = dict.fromkeys(graph.widths, 0.0)
        make_space(graph, cost, min_kept=0.05, budget={"macs": 0.5}, caps=dense)
    with pytest.raises(ConfigError, match="nothing can go"):
        make_space(graph, cost, min_kept=0.05, caps=dense)
    with pytest.raises(ConfigError, match="multiple_of = 1000"):
        make_space(graph, cost, min_kept=0.05, multiple_of=1000)


def test_caps_belong_to_what_a_study_is(make_engine: MakeEngine) -> None:
    plain, capped = make_engine("chain"), make_engine("chain", caps={"*": 0.5})
    assert "caps" not in plain.options.identity()
    assert capped.options.identity() == {**plain.options.identity(), "caps": {"*": 0.5}}
    with pytest.raises(ConfigError, match="caps 'steem'"):
        make_engine("residual", caps={"steem": 0.5}).check()
    with pytest.raises(ConfigError, match="ignore 'steem'"):
        make_engine("residual", ignore=["steem"]).check()
