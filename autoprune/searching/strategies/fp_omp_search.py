"""FP-OMP Search: which group loses the next batch of channels is decided by trying every group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from autoprune.searching.parameters import Parameters, to_parameters
from autoprune.searching.space import Space
from autoprune.searching.stored import read_path
from autoprune.searching.strategies.base import Problem, strategies
from autoprune.searching.strategies.proposing import Planned
from autoprune.searching.strategies.removal_walk import RemovalWalk, Rule

_SAVE_EVERY = 10
"""Steps after which the walk is kept with the study: what a killed search has to walk again."""


@strategies.register("fp-omp-search")
@dataclass(frozen=True, kw_only=True)
class FPOMPSearch(Planned):
    """Removes `batch_removal` channels at a time from the group where that costs least, down to the budget.

    In each step every group tentatively loses the channels that the criterion would remove next (cached:
    the order inside a group is made once, on the dense network), the candidate is assessed and the
    channels are put back; the group with the least damage keeps its loss. `measure`: `last-layer-error`,
    the relative error of the network's output (HBGTS); `layer-error`, that of the group's consumers,
    refitted, from the profile without a pass over images (HBGS); `accuracy` (the paper of 2022). Candidates
    are assessed with independent reconstruction (in a study without calibration images, the study's own)
    on the first `images` of the validation split.

    With a budget the walk ends where it holds, and that candidate is the trial; without one, the first
    candidate below each target of cost is a trial, from 95 % of dense down. Each batch removal size walks
    on its own, the largest first; 5 is the size in the authors' code.

    `lazy` is not in the papers: damage assessed in earlier steps counts until its group is pruned, and
    only the least is assessed anew until the least is fresh. `lazy = false` is the papers' full sweep.
    `per_cost` divides damage by the cost that the removal saves, which the papers do not. The walk is kept
    in the study, so that a search that continues goes on from there.
    """

    citation = "Purohit et al., AIMLSystems 2022 (FP-OMP Search); Purohit et al., TMLR 2024 (HBGS, HBGTS)"
    assesses = True

    measure: Literal["accuracy", "layer-error", "last-layer-error"] = "last-layer-error"
    images: Annotated[int, Field(ge=2)] = 256
    lazy: bool = True
    per_cost: bool = False
    _walks: dict[int, _Walked] = field(default_factory=dict, init=False, repr=False, compare=False)

    def plan(self) -> Iterator[Parameters]:
        for batch in sorted(set(self.problem.batches), reverse=True):
            walk = self._walks.setdefault(batch, _Walked(self, batch))
            for goal in range(len(walk.goals)):
                yield to_parameters(self.problem.space, walk.reached(goal), batch)

    def assess(self, counts: np.ndarray, group: int, batch: int) -> float:
        """Damage of widths (groups,) by the chosen measure; lower is better."""
        space = self.problem.space
        if self.measure == "layer-error":
            name = space.names[group]
            return float(self.problem.profile.layer_errors[batch][name][counts[group]])
        widths = space.widths(counts)
        return self.problem.workshop.assess(widths, batch, self.measure, self.images)


class _Walked:
    """The walk of one batch removal size and the candidates it passed, kept in the study."""

    def __init__(self, strategy: FPOMPSearch, batch: int) -> None:
        self.strategy, self.batch, self.goals = strategy, batch, goals(strategy.problem)
        how = (strategy.measure, strategy.images, strategy.lazy, strategy.per_cost, strategy.problem.seed)
        self.key = f"fp-omp-search/{batch}/" + "/".join(map(str, how)).lower()
        self._passed: list[np.ndarray] = []
        self._walk: RemovalWalk | None = None

    def reached(self, goal: int) -> np.ndarray:
        """Widths (groups,) of the first candidate on the way that satisfies this goal."""
        if self._walk is None:
            self._walk = self._load()
        while len(self._passed) <= goal:
            self._walk_to(self._walk, self.goals[len(self._passed)])
        return self._passed[goal]

    def _load(self) -> RemovalWalk:
        strategy, batch = self.strategy, self.batch
        stored = read_path(strategy.problem.workshop.recall(self.key) or {}, strategy.problem.space)
        self._passed = [np.array(counts) for counts in stored.passed]
        rule = Rule(
            whole_network=strategy.measure != "layer-error", lazy=strategy.lazy, per_cost=strategy.per_cost
        )
        space = strategy.problem.space
        return RemovalWalk(space, batch, lambda c, g: strategy.assess(c, g, batch), rule, stored.walk)

    def _walk_to(self, walk: RemovalWalk, goal: Space) -> None:
        first = _excess(goal, walk)
        with self.strategy.problem.workshop.progress.stage(f"walk by {self.batch}", 100) as stage:
            shown = steps = 0
            while _excess(goal, walk) > 0 and walk.step():
                share = 100 - round(100 * max(_excess(goal, walk), 0.0) / first)
                stage.advance(share - shown, f"{walk.assessments} assessments")
                shown, steps = share, steps + 1
                if steps % _SAVE_EVERY == 0:
                    self._save(walk)
        self._passed.append(walk.counts)
        self._save(walk)

    def _save(self, walk: RemovalWalk) -> None:
        stored: dict[str, Any] = {"passed": [counts.tolist() for counts in self._passed]}
        self.strategy.problem.workshop.remember(self.key, {**stored, "walk": walk.to_json()})


def goals(problem: Problem) -> list[Space]:
    """Bounds at which a candidate is taken, from the widest down: the budget, or else every target."""
    if problem.space.bounds:
        return [problem.space]
    return [problem.space.aimed(target) for target in reversed(problem.targets())]


def _excess(goal: Space, walk: RemovalWalk) -> float:
    return float(goal.excess(walk.counts[None])[0])
