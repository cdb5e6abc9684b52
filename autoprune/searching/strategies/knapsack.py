"""The default strategy: knapsack solutions under curves that finished trials keep correcting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import numpy as np
from optuna import Study
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from autoprune.errors import ConfigError
from autoprune.searching.parameters import Parameters
from autoprune.searching.space import LATENCY, Space
from autoprune.searching.strategies.base import (
    Strategy,
    Tried,
    ends_of,
    strategies,
)
from autoprune.searching.strategies.experience import Experience, taken_by
from autoprune.searching.strategies.knapsack_sampler import KnapsackSampler, on_few
from autoprune.searching.strategies.untaken import Key, nearest_untaken


@strategies.register("knapsack")
@dataclass(frozen=True, kw_only=True)
class Knapsack(Strategy):
    """Thompson sampling: draw curves from the surrogate's posterior, solve the knapsack for a target.

    Of `draws` such candidates, restored on few images, the best is measured; the errors of the others teach
    the surrogate too. First every twentieth of the dense cost has its turn as a target; then these, and steps
    of the front where another candidate would fit between two, are drawn by how much the front may gain
    there, and the candidate with the greatest expected improvement is measured. `targets` are shares of the
    dense cost (of the study's objective) to aim at instead, all alike, and the budget, but nothing between
    them. With one draw nothing is restored but what is measured.
    """

    citation = (
        "Sinha and Zoltners, 1979 (multiple-choice knapsack); Thompson, 1933; Bishop, 2006, section 3.3"
    )

    draws: Annotated[int, Field(ge=1)] = 4
    targets: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    _tried: dict[int, list[Tried]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _taken: dict[int, set[Key]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _experiences: WeakKeyDictionary[Study, Experience] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )

    @classmethod
    def check(cls, space: Space, options: Mapping[str, Any]) -> None:
        targets = options.get("targets", ())
        # A latency is known only once a table of it has been measured.
        if not targets or space.objective == LATENCY:
            return
        least, dense = ends_of(space)
        most = min(dense, space.bounds.get(space.objective, dense))
        outside = [share for share in targets if not least <= round(share * dense) <= most]
        if outside:
            raise ConfigError(
                f"the targets of strategy 'knapsack' must be reachable: {least / dense:.1%} of the "
                f"{space.objective} stay at least and {most / dense:.1%} may, got "
                f"{', '.join(f'{share:.1%}' for share in outside)}; aim between, or change min_kept or "
                "the budget."
            )

    def aims(self) -> list[float]:
        return self.problem.targets(sorted(self.targets)) if self.targets else super().aims()

    def sampler(self, finished: int) -> BaseSampler:
        free = not self.targets
        return KnapsackSampler(self.problem, self.aims(), free, self.draws, self._tried, self.experience)

    def warm_start(self) -> list[Parameters]:
        """With several draws the first candidates are chosen among them, so none is known beforehand."""
        return super().warm_start() if self.draws == 1 else []

    def experience(self, study: Study) -> Experience:
        """What is known of the study so far: kept from proposal to proposal."""
        if study not in self._experiences:
            self._experiences[study] = Experience(self.problem)
        return self._experiences[study]

    def proxies(self, counts: np.ndarray, batch: int) -> dict[str, float]:
        found = super().proxies(counts, batch)
        return {**found, **on_few(self.problem, counts, batch).proxies} if self.draws > 1 else found

    def _taken_by(self, trial: FrozenTrial) -> set[Key]:
        # A finished trial never changes.
        if trial.state is not TrialState.COMPLETE:
            return taken_by(self.problem, trial)
        if trial.number not in self._taken:
            self._taken[trial.number] = taken_by(self.problem, trial)
        return self._taken[trial.number]

    def tried(self, trial: int) -> list[Tried]:
        return self._tried.pop(trial, [])

    def done(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether all candidates of a small space, or within a tight budget, are measured."""
        problem = self.problem
        taken = set[Key]().union(*map(self._taken_by, trials))
        floor = (problem.batches[0], *problem.space.floor.tolist())
        return nearest_untaken(problem.space, problem.batches, floor, taken, 0.0) is None
