"""What a strategy is: candidates to begin with, and an Optuna sampler for those that follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from autoprune.components import Component
from autoprune.registry import Registry
from autoprune.searching.allocate import Curves, allocate
from autoprune.searching.parameters import Parameters, to_parameters
from autoprune.searching.profile import Profile
from autoprune.searching.space import Space

TARGET_STEP = 0.05
"""Shares of the dense MACs that candidates aim at: people ask for round numbers."""


@dataclass(frozen=True)
class Problem:
    """What a strategy knows: no tensor of the model, only the space and the profile's curves."""

    space: Space
    profile: Profile
    batches: Sequence[int]
    seed: int

    def curves(self, batch: int) -> Curves:
        return self.profile.curves(self.space.names, batch)

    def targets(self) -> list[int]:
        """MACs that candidates aim at, from the least reachable up to the bound (or just below dense)."""
        dense = self.space.cost.dense_macs
        least = int(self.space.costs(self.space.floor[None])["macs"][0])
        bound = self.space.bounds.get("macs", dense)
        steps = [round(dense * TARGET_STEP * i) for i in range(1, round(1 / TARGET_STEP))]
        inside = [step for step in steps if least <= step < bound]
        return sorted({*inside, bound} if bound < dense else {*inside} or {dense})


@dataclass(frozen=True, kw_only=True)
class Strategy(Component, ABC):
    """Proposes candidates; every proposal is projected onto the budget before it is evaluated.

    Options are the fields of its dataclass beside `problem`.
    """

    problem: Problem

    def warm_start(self) -> list[Parameters]:
        """Candidates to evaluate first: the knapsack front, so that any sampler starts from it."""
        problem, batch = self.problem, self.problem.batches[0]
        found = []
        for target in spread_out(problem.targets()):
            counts = allocate(problem.space.within({"macs": target}), problem.curves(batch))
            found.append(to_parameters(problem.space, counts, batch))
        return found

    @abstractmethod
    def sampler(self, finished: int) -> BaseSampler:
        """Sampler for a study with `finished` trials; its randomness follows from the seed and that."""

    def done(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether these finished trials leave nothing to propose: the search then ends early."""
        return False


def spread_out(values: Sequence[int]) -> list[int]:
    """The same values, the widest gap filled next: a search that stops early has still seen the range."""
    if len(values) <= 2:
        return list(values)
    order = [0, len(values) - 1]
    while len(order) < len(values):
        known = sorted(order)
        low, high = max(pairwise(known), key=lambda gap: gap[1] - gap[0])
        order.append((low + high) // 2)
    return [values[i] for i in order]


strategies: Registry[type[Strategy]] = Registry("strategy")
