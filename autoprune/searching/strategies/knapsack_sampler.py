"""Proposals around the knapsack front: which target, which draws for it, and which of them is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from autoprune.searching.allocate import allocate
from autoprune.searching.improvement import Forecast, Stairs, expected_excess
from autoprune.searching.parameters import Parameters, to_parameters
from autoprune.searching.strategies.base import OnFew, Problem, Tried, spread_out
from autoprune.searching.strategies.experience import Experience, taken_by
from autoprune.searching.strategies.proposing import Proposer
from autoprune.searching.strategies.untaken import Key, nearest_untaken
from autoprune.searching.surrogate import Surrogate
from autoprune.storing.queueing import broken, rank

_REDRAWS = 6
_MOST_REDRAWS = 40
"""Where all draws so far are known: it is better to look further than to measure a candidate twice."""
_TARGETS = 3
PROMISING = 0.5
"""Where the best draw for a target promises less than this share of what the target does, another target is
tried first."""
IN_LINE_SD = 0.01
"""What is expected of a target: a candidate in line with its neighbours on the front, give or take this."""


def on_few(problem: Problem, counts: np.ndarray, batch: int) -> OnFew:
    return problem.workshop.on_few(problem.space.widths(counts), batch)


Value = Callable[[float, float, float], float]
"""What a candidate adds to the front, from its cost and the mean and standard deviation of its accuracy."""


@dataclass(frozen=True)
class Candidate:
    """Widths (groups,), the batch removal size, and what it is on few images where that is known."""

    counts: np.ndarray
    batch: int
    few: OnFew | None = None

    @property
    def key(self) -> Key:
        return (self.batch, *self.counts.tolist())


class KnapsackSampler(Proposer):
    """Optuna sampler around the knapsack front. Its randomness follows from the seed and a trial's rank."""

    def __init__(
        self,
        problem: Problem,
        aims: Sequence[float],
        free: bool,
        draws: int,
        tried: dict[int, list[Tried]],
        experience: Callable[[Study], Experience],
    ) -> None:
        super().__init__(problem)
        self.aims, self.free, self.draws = aims, free, draws
        self.tried, self.experience = tried, experience
        self._curves = {batch: problem.curves(batch) for batch in problem.batches}

    def propose(self, study: Study, trial: FrozenTrial) -> Parameters:
        place = rank(study, trial._trial_id)
        rng = np.random.default_rng([self.problem.seed, place])
        experience = self.experience(study)
        experience.read(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        draw = partial(self._drawn, experience, rng, self._begun(study))
        if self.draws == 1:
            considered = list(draw(self.aims[int(rng.integers(len(self.aims)))], set()))
            best = considered[0]
        elif place < len(self.aims):
            considered = list(draw(spread_out(self.aims)[place], set()))
            best = min(considered, key=_judgement)
        else:
            best, considered = self._most_promising(draw, experience, rng)
        others = [c for c in considered if c is not best and c.few is not None]
        self.tried[trial.number] = [told(candidate) for candidate in others]
        return to_parameters(self.problem.space, best.counts, best.batch)

    def _most_promising(
        self,
        draw: Callable[[float, set[Key]], Iterator[Candidate]],
        experience: Experience,
        rng: np.random.Generator,
    ) -> tuple[Candidate, list[Candidate]]:
        """The candidate that may add most to the front, and all that were considered."""
        stairs, forecast = experience.stairs(), experience.forecast()
        targets, worths = self._targets(stairs)
        value = stairs.improvement if self.free else stairs.gain
        considered: list[Candidate] = []
        seen: set[Key] = set()
        promise: dict[int, float] = {}
        for _ in range(_TARGETS):
            place = int(rng.choice(len(targets), p=worths / worths.sum()))
            for candidate in draw(targets[place], seen):
                promise[len(considered)] = self._promise(candidate, value, forecast)
                considered.append(candidate)
                seen.add(candidate.key)
            best = max(promise, key=lambda number: promise[number])
            # Without a forecast candidates of different cost cannot be compared.
            if forecast is None or promise[best] >= PROMISING * worths[place]:
                break
        return considered[best], considered

    def _targets(self, stairs: Stairs) -> tuple[list[float], np.ndarray]:
        """What may be aimed at, and what the front is expected to gain there, (targets,)."""
        if not self.free:
            return list(self.aims), np.full(len(self.aims), expected_excess(0.0, IN_LINE_SD))
        space = self.problem.space
        most = space.bounds.get(space.objective, math.inf)
        targets = [*self.aims, *(cost for cost in stairs.between() if cost < most)]
        worths = [stairs.improvement(target, stairs.at(target), IN_LINE_SD) for target in targets]
        return targets, np.array(worths) + 1e-12

    def _promise(self, candidate: Candidate, value: Value, forecast: Forecast | None) -> float:
        """Expected improvement; before there is a forecast, the better the judgement the greater."""
        assert candidate.few is not None, "several draws are judged"
        if forecast is None or not math.isfinite(candidate.few.judgement):
            return -candidate.few.judgement
        cost = float(self.problem.space.objectives(candidate.counts[None])[0])
        return value(cost, *forecast(cost, candidate.few.judgement))

    def _drawn(
        self,
        experience: Experience,
        rng: np.random.Generator,
        begun: set[Key],
        target: float,
        seen: set[Key],
    ) -> Iterator[Candidate]:
        """Different candidates for one target of cost, none of those `seen` for another, restored on few
        images if there are several."""
        taken = begun | seen
        found: dict[Key, Candidate] = {}
        for attempt in range(self.draws + _MOST_REDRAWS):
            # Of several the first is what is known to be best.
            first = 0.0 if self.draws > 1 else 1.0
            spread = first if attempt == 0 else 1.0 + 0.5 * max(0, attempt - self.draws)
            candidate = self._draw(experience.surrogate, rng, target, spread)
            if candidate.key not in experience.known and candidate.key not in taken:
                found[candidate.key] = candidate
            if len(found) == self.draws or (found and attempt >= self.draws + _REDRAWS):
                break
        if not found:
            found[candidate.key] = self._left_over(candidate, target, experience.measured | taken)
        for one in found.values():
            few = on_few(self.problem, one.counts, one.batch) if self.draws > 1 else None
            yield Candidate(one.counts, one.batch, few)

    def _left_over(self, near: Candidate, target: float, taken: set[Key]) -> Candidate:
        """One that was only considered so far, or a few steps away; where all are measured, it again."""
        key = nearest_untaken(self.problem.space, self.problem.batches, near.key, taken, target) or near.key
        return Candidate(np.array(key[1:]), key[0])

    def _draw(
        self, surrogate: Surrogate, rng: np.random.Generator, target: float, spread: float
    ) -> Candidate:
        draw = surrogate.draw(rng, spread)
        pairs = zip(self._curves[draw.batch], draw.log_factors, strict=True)
        curves = [curve * np.exp(theta) for curve, theta in pairs]
        return Candidate(allocate(self.problem.space.aimed(target), curves), draw.batch)

    def _begun(self, study: Study) -> set[Key]:
        """Candidates that other workers are at, or that are queued: perhaps again, after a worker's death;
        and those that cannot be measured."""
        others = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        return set[Key]().union(*(taken_by(self.problem, trial) for trial in [*others, *broken(study)]))


def told(candidate: Candidate) -> Tried:
    """As a trial stores what was considered beside it."""
    proxies = {} if candidate.few is None else candidate.few.proxies
    return {"counts": candidate.counts.tolist(), "batch": candidate.batch, **proxies}


def _judgement(candidate: Candidate) -> float:
    return 0.0 if candidate.few is None else candidate.few.judgement
