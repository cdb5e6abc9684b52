"""A walk from the dense network down: in each step the group whose removal costs least loses channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprune.searching.space import Space
from autoprune.searching.stored import StoredWalk

UNKNOWN = -np.inf
"""Damage that has to be assessed: it comes before every known one."""
_BROKEN = 1e30
"""Damage of what makes a network answer with NaN or infinity: done only where nothing else is left."""

Assess = Callable[[np.ndarray, int], float]
"""Judges the widths (groups,) in which the group of this number was just made narrower; lower is better."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How damage is counted.

    `whole_network`: assessments judge the network, so the damage of a removal is what it adds; otherwise
    they judge one group, and the damage is the assessment. `lazy`: damage known from earlier steps counts
    until its group is pruned, and only the least is assessed anew until the least is fresh; that chooses as
    a full sweep does as long as no removal makes another one cheaper. `per_cost`: damage per cost saved.
    """

    whole_network: bool
    lazy: bool
    per_cost: bool


class RemovalWalk:
    """Where the walk stands: widths (groups,), the network's assessment and each group's damage (groups,)."""

    def __init__(
        self, space: Space, batch: int, assess: Assess, rule: Rule, stored: StoredWalk | None = None
    ) -> None:
        """At the dense network, or where `to_json` was called."""
        self.space, self.batch, self.rule, self._assess = space, batch, rule, assess
        if stored is None:
            self.counts, self.assessments = space.dense, 0
            self.value = assess(space.dense, 0) if rule.whole_network else 0.0
            self.damage = np.full(len(space.names), UNKNOWN)
        else:
            self.counts, self.assessments = np.array(stored.counts), stored.assessments
            self.value = stored.value
            self.damage = np.array([UNKNOWN if d is None else d for d in stored.damage])

    def to_json(self) -> dict[str, Any]:
        """The walk between two steps, as plain JSON."""
        damage = [float(known) if np.isfinite(known) else None for known in self.damage]
        counts = self.counts.tolist()
        return {"counts": counts, "value": self.value, "damage": damage, "assessments": self.assessments}

    def step(self) -> bool:
        """Take one step; False where no group can lose a channel."""
        group = self._cheapest()
        if group is None:
            return False
        if self.rule.whole_network:
            self.value += float(self.damage[group])
        self.counts = self._narrower(group)
        self.damage[group if self.rule.lazy else slice(None)] = UNKNOWN
        return True

    def _cheapest(self) -> int | None:
        movable = np.array([self._narrower(g)[g] < self.counts[g] for g in range(len(self.counts))])
        if not movable.any():
            return None
        saved = self._saved() if self.rule.per_cost else np.ones(len(self.counts))
        fresh = np.zeros(len(self.counts), dtype=bool)
        while True:
            group = int(np.argmin(np.where(movable, self.damage / saved, np.inf)))
            if fresh[group]:
                return group
            value = self._assess(self._narrower(group), group)
            self.damage[group], fresh[group] = (value if value < _BROKEN else _BROKEN) - self.value, True
            self.assessments += 1

    def _narrower(self, group: int) -> np.ndarray:
        """The same widths with `batch` channels of the group gone, or as many as its floor allows."""
        option, counts = self.space.options[group], self.counts.copy()
        allowed = option[option <= max(int(counts[group]) - self.batch, int(option[0]))]
        counts[group] = allowed[-1]
        return counts

    def _saved(self) -> np.ndarray:
        """What the next removal from each group saves of the objective's cost, (groups,)."""
        steps = np.stack([self._narrower(group) for group in range(len(self.counts))])
        costs = self.space.objectives(np.concatenate([self.counts[None], steps]))
        least = 1e-6 * costs[0] if costs.dtype.kind == "f" else 1
        return np.asarray(np.maximum(costs[0] - costs[1:], least))
