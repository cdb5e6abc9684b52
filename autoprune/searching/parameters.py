"""How a candidate is spelled as Optuna parameters: one rate per group, and the batch removal size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from autoprune.searching.space import Space

RATE = "rate."
BATCH_REMOVAL = "batch_removal"

Parameters = dict[str, Any]


def distributions(space: Space, batches: Sequence[int]) -> dict[str, BaseDistribution]:
    """The search space that Optuna, its samplers and dashboards see."""
    rates: dict[str, BaseDistribution] = {
        RATE + name: FloatDistribution(0.0, 1.0 - int(option[0]) / int(option[-1]))
        for name, option in zip(space.names, space.options, strict=True)
        if len(option) > 1
    }
    return {**rates, BATCH_REMOVAL: CategoricalDistribution(tuple(batches))}


def to_parameters(space: Space, counts: np.ndarray, batch: int) -> Parameters:
    """Parameters of a candidate with these widths (groups,)."""
    rates = space.rates(counts)
    movable = [name for name, option in zip(space.names, space.options, strict=True) if len(option) > 1]
    return {**{RATE + name: rates[name] for name in movable}, BATCH_REMOVAL: batch}


def to_counts(space: Space, parameters: Mapping[str, Any]) -> np.ndarray:
    """Nearest allowed widths (groups,), not yet projected onto the budget."""
    return space.counts({n: parameters[RATE + n] for n in space.names if RATE + n in parameters})
