"""The default strategy: knapsack solutions under curves that finished trials keep correcting."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from optuna import Study
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from autoprune.searching.allocate import allocate
from autoprune.searching.attributes import OUTPUT_ERROR, WIDTHS
from autoprune.searching.parameters import BATCH_REMOVAL, Parameters, to_parameters
from autoprune.searching.strategies.base import Problem, Strategy, strategies
from autoprune.searching.strategies.proposing import Proposer
from autoprune.searching.surrogate import Observation, Surrogate

_TRIES = 6


@strategies.register("knapsack")
class Knapsack(Strategy):
    """Thompson sampling: draw curves from the surrogate's posterior, solve the knapsack for a target."""

    citation = (
        "Sinha and Zoltners, 1979 (multiple-choice knapsack); Thompson, 1933; Bishop, 2006, section 3.3"
    )

    def sampler(self, finished: int) -> BaseSampler:
        return KnapsackSampler(self.problem)


class KnapsackSampler(Proposer):
    """Optuna sampler around the knapsack front. Reproducible: its randomness is seed and trial number."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._curves = {batch: problem.curves(batch) for batch in problem.batches}

    def propose(self, study: Study, trial: FrozenTrial) -> Parameters:
        rng = np.random.default_rng([self.problem.seed, trial.number])
        seen = self._observations(study)
        surrogate = Surrogate(self._curves, seen)
        known = {(o.batch, *o.counts) for o in seen}
        for attempt in range(_TRIES):
            counts, batch = self._propose(surrogate, rng, spread=1.0 + 0.5 * attempt)
            if (batch, *counts) not in known:
                break
        return to_parameters(self.problem.space, counts, batch)

    def _propose(
        self, surrogate: Surrogate, rng: np.random.Generator, spread: float
    ) -> tuple[np.ndarray, int]:
        draw = surrogate.draw(rng, spread)
        target = int(rng.choice(self.problem.targets()))
        pairs = zip(self._curves[draw.batch], draw.log_factors, strict=True)
        curves = [curve * np.exp(theta) for curve, theta in pairs]
        return allocate(self.problem.space.within({"macs": target}), curves), draw.batch

    def _observations(self, study: Study) -> list[Observation]:
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [self._observation(trial) for trial in trials if OUTPUT_ERROR in trial.user_attrs]

    def _observation(self, trial: FrozenTrial) -> Observation:
        widths: Mapping[str, int] = trial.user_attrs[WIDTHS]
        counts = np.array([widths[name] for name in self.problem.space.names])
        return Observation(counts, trial.params[BATCH_REMOVAL], trial.user_attrs[OUTPUT_ERROR])
