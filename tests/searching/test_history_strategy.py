"""HBFP's iterations: how many channels go, from which trial, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState

from autoprune.errors import ConfigError
from autoprune.searching.engine import Engine
from autoprune.searching.running import Run
from autoprune.searching.study import finished

MakeEngine = Callable[..., Engine]


def make(make_engine: MakeEngine, share: Any, **options: Any) -> Engine:
    how = {"share": share, "tolerance": 1.0}
    given: dict[str, Any] = {"strategy_options": how, "trials": 50, "batch_removal": (1,), "min_kept": 0.01}
    return make_engine("residual", strategy="history", **{**given, **options})


def test_each_group_loses_its_share_rounded_down(make_engine: MakeEngine) -> None:
    engine = make(make_engine, [50, 30])
    front = engine.search()
    widths = dict(engine.graph.widths)
    for point, percent in zip(front.trials, [50] + [30] * 50, strict=False):
        widths = {name: width - width * percent // 100 for name, width in widths.items()}
        assert point.widths == widths
    assert all(width * 30 // 100 == 0 for width in widths.values()), "it ended although channels could go"
    assert len(front.trials) < 50 and engine.strategy.done(finished(engine.study))


def test_it_continues_from_the_last_trial_and_ends_where_accuracy_falls(make_engine: MakeEngine) -> None:
    engine = make(make_engine, 40, strategy_options={"share": 40, "tolerance": 0.1})
    assert engine.strategy.parent([]) is None
    front = engine.search()
    floor = front.dense.accuracy - 0.1
    accuracies = [point.accuracy for point in front.trials]
    assert accuracies[-1] < floor and all(accuracy >= floor for accuracy in accuracies[:-1])
    trials = finished(engine.study)
    assert engine.strategy.parent(trials) == trials[-1].number
    assert not engine.strategy.done(trials[:-1]) and engine.strategy.done(trials)


def test_widths_that_are_not_allowed_are_rounded_up(make_engine: MakeEngine) -> None:
    engine = make(make_engine, 30, multiple_of=2, min_kept=0.5)
    front = engine.search()
    dense = engine.graph.widths
    for point in front.trials:
        assert all(w % 2 == 0 and 2 * w >= dense[n] for n, w in point.widths.items())
    assert front.trials[0].widths["stem.0"] == 6


@pytest.mark.parametrize("share", [0, 100, [], [50, 0], "half"])
def test_shares_are_percents(make_engine: MakeEngine, share: Any) -> None:
    with pytest.raises(ConfigError, match="option 'share' of strategy 'history'"):
        make(make_engine, share)


@pytest.mark.parametrize("strategy", ["history", "rate-derivation"])
def test_a_worker_waits_while_another_is_at_the_candidate_before(
    make_engine: MakeEngine, strategy: str
) -> None:
    engine = make_engine("residual", strategy=strategy, batch_removal=(1,), trials=50)
    engine.search(trials=1)
    run = Run(engine, engine.study)
    assert not run._busy_elsewhere(50)
    running = engine.study.ask()
    assert run._busy_elsewhere(50)
    engine.study.tell(running, state=TrialState.FAIL)
    assert not run._busy_elsewhere(50)
