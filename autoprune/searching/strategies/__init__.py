"""Strategies: who proposes the next candidate. One file per idea, one table of names."""

from autoprune.searching.strategies.base import Problem, Strategy, Workshop, strategies
from autoprune.searching.strategies.fp_omp_search import FPOMPSearch
from autoprune.searching.strategies.history import HistoryStrategy
from autoprune.searching.strategies.knapsack import Knapsack
from autoprune.searching.strategies.knapsack_sampler import KnapsackSampler
from autoprune.searching.strategies.plain import GP, NSGA2, TPE, RandomRates
from autoprune.searching.strategies.rate_derivation import RateDerivation
from autoprune.searching.strategies.uniform import Dispersion, Uniform

__all__ = [
    "GP",
    "NSGA2",
    "TPE",
    "Dispersion",
    "FPOMPSearch",
    "HistoryStrategy",
    "Knapsack",
    "KnapsackSampler",
    "Problem",
    "RandomRates",
    "RateDerivation",
    "Strategy",
    "Uniform",
    "Workshop",
    "strategies",
]
