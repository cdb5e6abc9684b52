"""Optuna samplers that propose whole candidates, and plans: candidates that are known beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from autoprune.searching.parameters import BATCH_REMOVAL, Parameters, distributions, to_counts
from autoprune.searching.strategies.base import Problem, Strategy
from autoprune.storing.queueing import broken


class Proposer(BaseSampler, ABC):
    """A sampler that gives all parameters of a trial at once."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._fallback = RandomSampler(seed=problem.seed)

    @abstractmethod
    def propose(self, study: Study, trial: FrozenTrial) -> Parameters:
        """Parameters of the next candidate, for `trial`, which is already in the study."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return distributions(self.problem.space, self.problem.batches)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # Optuna asks for every trial, also for one that was queued with its parameters.
        return {} if "fixed_params" in trial.system_attrs else self.propose(study, trial)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._fallback.sample_independent(study, trial, param_name, param_distribution)


class Planned(Strategy, ABC):
    """Evaluates a plan, one candidate after the other, and is then done."""

    @abstractmethod
    def plan(self) -> Iterable[Parameters]:
        """The candidates in order, the same ones each time; made only as far as they are asked for."""

    def warm_start(self) -> list[Parameters]:
        return []

    def sampler(self, finished: int) -> BaseSampler:
        return PlanSampler(self)

    def done(self, trials: Sequence[FrozenTrial]) -> bool:
        return not any(left_over(self.problem, self.plan(), trials))


class PlanSampler(Proposer):
    """The first candidate of the plan that no trial has, or that none has finished; broken ones come last."""

    def __init__(self, strategy: Planned) -> None:
        super().__init__(strategy.problem)
        self.strategy = strategy

    def propose(self, study: Study, trial: FrozenTrial) -> Parameters:
        # Other workers are busy with some: those come last.
        for states in ((TrialState.COMPLETE, TrialState.RUNNING), (TrialState.COMPLETE,), ()):
            trials = [*study.get_trials(deepcopy=False, states=states), *broken(study)]
            for parameters in left_over(self.problem, self.strategy.plan(), trials):
                return parameters
        # All that is left is broken.
        return next(iter(self.strategy.plan()))


def left_over(
    problem: Problem, plan: Iterable[Parameters], trials: Sequence[FrozenTrial]
) -> Iterable[Parameters]:
    """Candidates of the plan that are not among the trials, in order."""
    known = {_key(problem, trial.params) for trial in trials if BATCH_REMOVAL in trial.params}
    return (parameters for parameters in plan if _key(problem, parameters) not in known)


def _key(problem: Problem, parameters: Parameters) -> tuple[int, ...]:
    return (int(parameters[BATCH_REMOVAL]), *to_counts(problem.space, parameters).tolist())
