"""Strategies: who proposes the next candidate. One file per idea, one table of names."""

from autoprune.searching.strategies.base import Problem, Strategy, strategies
from autoprune.searching.strategies.knapsack import Knapsack, KnapsackSampler
from autoprune.searching.strategies.plain import NSGA2, TPE, RandomRates

__all__ = ["NSGA2", "TPE", "Knapsack", "KnapsackSampler", "Problem", "RandomRates", "Strategy", "strategies"]
