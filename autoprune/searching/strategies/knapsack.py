"""The default strategy: knapsack solutions under curves that finished trials keep correcting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import numpy as np
from optuna import Study
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from autoprune.errors import ConfigError
from autoprune.searching.allocate import allocate
from autoprune.searching.parameters import BATCH_REMOVAL, Parameters, to_counts, to_parameters
from autoprune.searching.space import Space
from autoprune.searching.strategies.base import ON_FEW, Problem, Strategy, Tried, ends_of, strategies
from autoprune.searching.strategies.experience import Experience, Key
from autoprune.searching.strategies.proposing import Proposer
from autoprune.searching.surrogate import Surrogate
from autoprune.storing.queueing import parameters_of, rank

_REDRAWS = 6
_MOST_REDRAWS = 40
"""Where all draws so far are known: it is better to look further than to measure a candidate twice."""
_TARGETS = 3
HOPELESS = 1.15
"""A candidate whose error on few images is above that of one which is measured and as cheap by more than
this factor cannot be expected to enter the front: another target is tried first."""


@strategies.register("knapsack")
@dataclass(frozen=True, kw_only=True)
class Knapsack(Strategy):
    """Thompson sampling: draw curves from the surrogate's posterior, solve the knapsack for a target.

    Of `draws` such candidates the one with the least output error on few images is measured; the errors
    of the others teach the surrogate too. With one draw nothing is restored but what is measured. `targets`
    are shares of the dense cost (of the study's objective) to aim at, every twentieth where none is given.
    """

    citation = (
        "Sinha and Zoltners, 1979 (multiple-choice knapsack); Thompson, 1933; Bishop, 2006, section 3.3"
    )

    draws: Annotated[int, Field(ge=1)] = 4
    targets: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    _tried: dict[int, list[Tried]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _experiences: WeakKeyDictionary[Study, Experience] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )

    @classmethod
    def check(cls, space: Space, options: Mapping[str, Any]) -> None:
        targets = options.get("targets", ())
        # A latency is known only once a table of it has been measured.
        if not targets or space.objective == "latency":
            return
        least, dense = ends_of(space)
        if max(targets) * dense < least:
            raise ConfigError(
                f"the targets of strategy 'knapsack' must be reachable: {least / dense:.1%} of the "
                f"{space.objective} stay at least, got {', '.join(f'{share:.1%}' for share in targets)}; aim "
                "higher, or lower min_kept."
            )

    def aims(self) -> list[float]:
        return self.problem.targets(sorted(self.targets)) if self.targets else super().aims()

    def sampler(self, finished: int) -> BaseSampler:
        return KnapsackSampler(self.problem, self.aims(), self.draws, self._tried, self.experience)

    def experience(self, study: Study) -> Experience:
        """What is known of the study so far: kept from proposal to proposal."""
        if study not in self._experiences:
            self._experiences[study] = Experience(self.problem)
        return self._experiences[study]

    def proxies(self, counts: np.ndarray, batch: int) -> dict[str, float]:
        found = super().proxies(counts, batch)
        return {**found, ON_FEW: on_few(self.problem, counts, batch)} if self.draws > 1 else found

    def tried(self, trial: int) -> list[Tried]:
        return self._tried.pop(trial, [])


def on_few(problem: Problem, counts: np.ndarray, batch: int) -> float:
    return problem.workshop.error_on_few(problem.space.widths(counts), batch)


@dataclass(frozen=True)
class Candidate:
    """Widths (groups,) to remove in batches of this size, and the error on few images where it is known."""

    counts: np.ndarray
    batch: int
    error: float | None = None

    @property
    def key(self) -> Key:
        return (self.batch, *self.counts.tolist())


class KnapsackSampler(Proposer):
    """Optuna sampler around the knapsack front. Its randomness follows from the seed and a trial's rank."""

    def __init__(
        self,
        problem: Problem,
        aims: Sequence[float],
        draws: int,
        tried: dict[int, list[Tried]],
        experience: Callable[[Study], Experience],
    ) -> None:
        super().__init__(problem)
        self.aims, self.draws, self.tried, self.experience = aims, draws, tried, experience
        self._curves = {batch: problem.curves(batch) for batch in problem.batches}

    def propose(self, study: Study, trial: FrozenTrial) -> Parameters:
        rng = np.random.default_rng([self.problem.seed, rank(study, trial._trial_id)])
        experience = self.experience(study)
        experience.read(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        begun = self._begun(study)
        considered: list[Candidate] = []
        for _ in range(_TARGETS if self.draws > 1 else 1):
            drawn = list(self._drawn(experience, rng, begun))
            considered += drawn
            best = min(drawn, key=_error)
            if self._may_enter(best, experience):
                break
        # Where all targets looked hopeless, the best of the last one is measured all the same.
        others = [c for c in considered if c is not best and c.error is not None]
        self.tried[trial.number] = [self._told(candidate) for candidate in others]
        return to_parameters(self.problem.space, best.counts, best.batch)

    def _drawn(
        self, experience: Experience, rng: np.random.Generator, begun: set[Key]
    ) -> Iterator[Candidate]:
        """Different candidates for one target of cost, restored on few images if there are several."""
        target = self.aims[int(rng.integers(len(self.aims)))]
        found: dict[Key, Candidate] = {}
        for attempt in range(self.draws + _MOST_REDRAWS):
            spread = 1.0 + 0.5 * max(0, attempt - self.draws)
            candidate = self._draw(experience.surrogate, rng, target, spread)
            if candidate.key not in experience.known and candidate.key not in begun:
                found[candidate.key] = candidate
            if len(found) == self.draws or (found and attempt >= self.draws + _REDRAWS):
                break
        # Where the space holds nothing new, an old candidate is as good as any.
        for one in list(found.values()) or [candidate]:
            error = on_few(self.problem, one.counts, one.batch) if self.draws > 1 else None
            yield Candidate(one.counts, one.batch, error)

    def _draw(
        self, surrogate: Surrogate, rng: np.random.Generator, target: float, spread: float
    ) -> Candidate:
        draw = surrogate.draw(rng, spread)
        pairs = zip(self._curves[draw.batch], draw.log_factors, strict=True)
        curves = [curve * np.exp(theta) for curve, theta in pairs]
        return Candidate(allocate(self.problem.space.aimed(target), curves), draw.batch)

    def _begun(self, study: Study) -> set[Key]:
        """Candidates that other workers are at, or that are queued: perhaps again, after a worker's death."""
        others = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        known = [p for p in map(parameters_of, others) if BATCH_REMOVAL in p]
        return {(int(p[BATCH_REMOVAL]), *to_counts(self.problem.space, p).tolist()) for p in known}

    def _may_enter(self, candidate: Candidate, experience: Experience) -> bool:
        """Whether no measured candidate as cheap had a much smaller error on few images."""
        if candidate.error is None:
            return True
        cost = float(self.problem.space.objectives(candidate.counts[None])[0])
        return candidate.error <= HOPELESS * experience.least_error(cost)

    def _told(self, candidate: Candidate) -> Tried:
        return {"counts": candidate.counts.tolist(), "batch": candidate.batch, ON_FEW: candidate.error}


def _error(candidate: Candidate) -> float:
    return 0.0 if candidate.error is None else candidate.error
