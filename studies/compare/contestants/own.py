"""autoprune: the study's own search with its budget at the target; best point on validation."""

from __future__ import annotations

from dataclasses import replace

from optuna.storages import InMemoryStorage

from autoprune.searching.engine import Engine
from contestants.ring import Choice, Contestant, Ring


def choose(ring: Ring) -> Choice:
    """Nothing is shared with the other contestants: groups, second moments and curves are made anew."""
    engine = ring.session.engine
    options = replace(engine.options, trials=ring.settings.trials, budget={"macs": ring.limit})
    fresh = Engine(engine.task, options, InMemoryStorage())
    front = fresh.search()
    ring.evaluations += len(front.trials)
    point = front.best(macs=ring.limit)
    return Choice(fresh.build(point), dict(point.kept.items()))


CONTESTANTS = [Contestant("autoprune", choose)]
