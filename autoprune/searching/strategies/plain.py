"""Optuna's own samplers over the free rates, for comparison: all start from the knapsack front too."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from autoprune.searching.strategies.base import Strategy, strategies


@strategies.register("random")
class RandomRates(Strategy):
    """Uniform random rates: the control."""

    def sampler(self, finished: int) -> BaseSampler:
        return RandomSampler(seed=derived_seed(self.problem.seed, finished))


@strategies.register("nsga2")
class NSGA2(Strategy):
    """NSGA-II over the rates."""

    citation = "Deb et al., IEEE TEC 2002"

    def sampler(self, finished: int) -> BaseSampler:
        return NSGAIISampler(seed=derived_seed(self.problem.seed, finished))


@strategies.register("tpe")
class TPE(Strategy):
    """Multivariate multi-objective TPE over the rates."""

    citation = "Ozaki et al., JAIR 2022"

    def sampler(self, finished: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(multivariate=True, seed=derived_seed(self.problem.seed, finished))


def derived_seed(seed: int, finished: int) -> int:
    """Optuna does not store a sampler's state: the same seed would replay the same proposals."""
    return (seed * 1_000_003 + finished) % 2**31
