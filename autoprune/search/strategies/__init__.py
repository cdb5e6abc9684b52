"""Strategies: who proposes the next candidate. One file per idea, one table of names."""

from autoprune.search.strategies.base import Problem, Strategy, strategies
from autoprune.search.strategies.knapsack import Knapsack, KnapsackSampler
from autoprune.search.strategies.plain import NSGA2, TPE, RandomRates

__all__ = ["NSGA2", "TPE", "Knapsack", "KnapsackSampler", "Problem", "RandomRates", "Strategy", "strategies"]
