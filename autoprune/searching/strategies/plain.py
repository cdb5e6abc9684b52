"""Optuna's own samplers over the free rates, for comparison; they start from the knapsack front if asked."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from autoprune.searching.parameters import Parameters
from autoprune.searching.strategies.base import Strategy, strategies


@dataclass(frozen=True, kw_only=True)
class Plain(Strategy):
    """A sampler of Optuna's. `warm`: evaluate the knapsack front first."""

    warm: bool = True

    def warm_start(self) -> list[Parameters]:
        return super().warm_start() if self.warm else []

    def sampler(self, finished: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return self.seeded(derived_seed(self.problem.seed, finished))

    @abstractmethod
    def seeded(self, seed: int) -> BaseSampler:
        """The sampler with this seed."""


@strategies.register("random")
@dataclass(frozen=True, kw_only=True)
class RandomRates(Plain):
    """Uniform random rates: the control."""

    def seeded(self, seed: int) -> BaseSampler:
        return RandomSampler(seed=seed)


@strategies.register("nsga2")
@dataclass(frozen=True, kw_only=True)
class NSGA2(Plain):
    """NSGA-II over the rates."""

    citation = "Deb et al., IEEE TEC 2002"

    def seeded(self, seed: int) -> BaseSampler:
        return NSGAIISampler(seed=seed)


@strategies.register("tpe")
@dataclass(frozen=True, kw_only=True)
class TPE(Plain):
    """Multivariate multi-objective TPE over the rates."""

    citation = "Ozaki et al., JAIR 2022"

    def seeded(self, seed: int) -> BaseSampler:
        return TPESampler(multivariate=True, seed=seed)


@strategies.register("gp")
@dataclass(frozen=True, kw_only=True)
class GP(Plain):
    """Gaussian process with expected hypervolume improvement over the rates: about a second a trial."""

    citation = "Daulton et al., NeurIPS 2020, as in Optuna's GPSampler"

    def seeded(self, seed: int) -> BaseSampler:
        return GPSampler(seed=seed, deterministic_objective=True)


def derived_seed(seed: int, finished: int) -> int:
    """Optuna does not store a sampler's state: the same seed would replay the same proposals."""
    return (seed * 1_000_003 + finished) % 2**31
