"""Rates that follow one number: the same for all groups, or scaled by a weight per group."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field

from autoprune.searching.allocate import project
from autoprune.searching.parameters import Parameters, to_parameters
from autoprune.searching.space import Space
from autoprune.searching.strategies.base import Problem, spread_out, strategies
from autoprune.searching.strategies.proposing import Planned

_BISECTIONS = 40
_NOTHING = 1e-6
"""A share of the greatest rate at which no group loses a channel."""


@strategies.register("uniform")
@dataclass(frozen=True, kw_only=True)
class Uniform(Planned):
    """The same rate for all groups, as low as each target of cost allows: the control for criteria.

    Widths are rounded to the nearest allowed one. Ends when every target has been evaluated with every
    batch removal size.
    """

    def plan(self) -> list[Parameters]:
        return self._plan

    @cached_property
    def _plan(self) -> list[Parameters]:
        return list(one_per_target(self.problem, np.ones(len(self.problem.space.names)), 1.0))


@strategies.register("dispersion")
@dataclass(frozen=True, kw_only=True)
class Dispersion(Planned):
    """Rates that fall where Kernel Dispersion rises: redundant groups lose more channels.

    `p_l = clip(P (1 - KD_l)^exponent / mean, 0, p_max)` with the mean over channels (each group counts by
    its width), so that P is the mean rate before clipping; for each target of cost, P is the least that
    meets it, by bisection. A target that needs more than `p_max` is left out, unless none is left: then
    channels beyond `p_max` go where the profile loses least. The formula is a reading: the paper says
    that rates follow the dispersion, not how. Ends like `uniform`.
    """

    citation = "Li et al., Information Sciences 689, 2025, 121418 (SFP)"

    exponent: Annotated[float, Field(ge=0)] = 1.0
    p_max: Annotated[float, Field(gt=0, le=1)] = 0.95

    def plan(self) -> list[Parameters]:
        return self._plan

    @cached_property
    def _plan(self) -> list[Parameters]:
        space, workshop = self.problem.space, self.problem.workshop
        dispersions = np.array([workshop.dispersion(name) for name in space.names])
        redundancy = (1.0 - dispersions) ** self.exponent
        mean = np.average(redundancy, weights=space.dense)
        weights = redundancy / mean if mean > 0 else np.ones(len(redundancy))
        return list(one_per_target(self.problem, weights, self.p_max))


def one_per_target(problem: Problem, weights: np.ndarray, highest: float) -> Iterator[Parameters]:
    """Candidates with rates `clip(P * weights, 0, highest)`, the least P for each target and batch size."""
    targets = spread_out(problem.targets())
    found = [scaled_rates(problem.space.aimed(t), weights, highest) for t in targets]
    counts = [row for row in found if row is not None]
    for batch in problem.batches:
        if counts:
            yield from (to_parameters(problem.space, row, batch) for row in counts)
        else:
            least = _rounded(problem.space, np.where(weights > 0, highest, 0.0))
            row = project(problem.space, problem.curves(batch), least)
            yield to_parameters(problem.space, row, batch)


def scaled_rates(space: Space, weights: np.ndarray, highest: float) -> np.ndarray | None:
    """Widths (groups,) within the space's bounds for the least P, or None where no P is enough."""
    positive = weights[weights > 0]
    if len(positive) == 0:
        return None

    def counts(p: float) -> np.ndarray:
        return _rounded(space, np.clip(p * weights, 0.0, highest))

    # In logarithms: weights may be of very different size.
    low, high = _NOTHING * highest / float(positive.max()), highest / float(positive.min())
    if space.excess(counts(high)[None])[0] > 0:
        return None
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        fits = space.excess(counts(middle)[None])[0] <= 0
        low, high = (low, middle) if fits else (middle, high)
    return counts(high)


def _rounded(space: Space, rates: np.ndarray) -> np.ndarray:
    return space.counts(dict(zip(space.names, rates.tolist(), strict=True)))
