"""What a search may propose: allowed widths per group, and hard bounds on cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from autoprune.errors import BudgetError, ConfigError, ModelError, unknown_name

if TYPE_CHECKING:
    # PyTorch takes seconds to import, and who reads a stored study needs none of it.
    from autoprune.graph.cost import CostModel, Costs
    from autoprune.graph.groups import ChannelGraph

Widths = dict[str, int]
Bounds = Mapping[str, float]
"""Cost name (macs, params, bytes, latency_ms) -> largest allowed value, absolute."""
Latencies = Callable[[np.ndarray], np.ndarray]
"""Candidates (n, groups) -> milliseconds (n,) that a measurement should not exceed."""

LATENCY = "latency_ms"
OBJECTIVES = {"macs": "macs", "params": "params", "latency": LATENCY}
"""What a front can run over beside accuracy -> the name of that cost."""


@dataclass(frozen=True)
class Space:
    """Groups in network order; `options[g]` are the allowed widths of group g, rising, dense last.

    `objective` names the cost that candidates are spread over. With `latencies`, a study's that times its
    networks, latency is a cost too; the first call may take as long as measuring a table.
    """

    names: tuple[str, ...]
    options: tuple[np.ndarray, ...]
    cost: CostModel
    bounds: Bounds
    objective: str = "macs"
    latencies: Latencies | None = None

    @property
    def dense(self) -> np.ndarray:
        """Full widths, (groups,)."""
        return np.array([option[-1] for option in self.options])

    @property
    def floor(self) -> np.ndarray:
        """Smallest allowed widths, (groups,)."""
        return np.array([option[0] for option in self.options])

    def widths(self, counts: np.ndarray) -> Widths:
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}

    def rates(self, counts: np.ndarray) -> dict[str, float]:
        """Pruning rate per group: the share of channels that go."""
        rows = zip(self.names, counts, self.dense, strict=True)
        return {name: 1.0 - int(kept) / int(width) for name, kept, width in rows}

    def counts(self, rates: Mapping[str, float]) -> np.ndarray:
        """Nearest allowed widths for given rates, (groups,); a missing group stays dense."""
        named = zip(self.names, self.dense, strict=True)
        wanted = [(1.0 - rates.get(name, 0.0)) * int(width) for name, width in named]
        picks = [
            int(option[np.argmin(np.abs(option - width))])
            for option, width in zip(self.options, wanted, strict=True)
        ]
        return np.array(picks)

    def costs(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """All costs of candidates (n, groups), by name; each (n,)."""
        known = by_name(self.cost.evaluate(counts))
        return known if self.latencies is None else {**known, LATENCY: self.latencies(np.asarray(counts))}

    def objectives(self, counts: np.ndarray) -> np.ndarray:
        """The objective's cost of candidates (n, groups), (n,)."""
        return self.costs(counts)[self.objective]

    def excess(self, counts: np.ndarray) -> np.ndarray:
        """How far candidates are above the tightest bound: max over bounds of cost / bound - 1, (n,)."""
        if not self.bounds:
            return np.full(len(counts), -1.0)
        costs = self.costs(counts)
        ratios = [costs[name] / bound for name, bound in self.bounds.items()]
        return np.asarray(np.max(ratios, axis=0) - 1.0)

    def within(self, bounds: Bounds) -> Space:
        """The same space with tighter bounds: those given, and its own."""
        merged = {**bounds}
        for name, bound in self.bounds.items():
            merged[name] = min(bound, merged.get(name, bound))
        return replace(self, bounds=merged)

    def aimed(self, target: float) -> Space:
        """The same space with the objective's cost bounded by `target`."""
        return self.within({self.objective: target})


def by_name(costs: Costs) -> dict[str, np.ndarray]:
    return {"macs": costs.macs, "params": costs.params, "bytes": costs.bytes}


def make_space(
    graph: ChannelGraph,
    cost: CostModel,
    *,
    min_kept: float,
    multiple_of: int = 1,
    budget: Mapping[str, float | int] | None = None,
    caps: Mapping[str, float] | None = None,
    objective: str = "macs",
    latencies: Latencies | None = None,
) -> Space:
    """The search space of a network. `caps` are greatest pruning rates of groups, 0..1. Whether a budget of
    latency is reachable is not asked here, since it would have to be measured: see `check_reachable`.

    Raises ModelError when nothing can be pruned, BudgetError when the floors do not fit the budget.
    """
    if not graph.groups:
        # Here, for what only reads studies imports this module without torch.
        from autoprune.graph.discover import OUTPUT

        found = {frozen.reason for frozen in graph.frozen}
        # That the last layer stays says nothing of why others do.
        reasons = sorted(found - {OUTPUT} or found)
        raise ModelError(
            "a search needs at least one prunable channel group, but the model has none. "
            f"Frozen because: {'; '.join(reasons[:5]) or 'no weighted layer feeds another'}."
        )
    least = {name: max(min_kept, 1.0 - cap) for name, cap in (caps or {}).items()}
    options = tuple(
        allowed_widths(group.width, least.get(group.name, min_kept), multiple_of) for group in graph.groups
    )
    names = tuple(group.name for group in graph.groups)
    bounds = absolute_bounds(cost, budget or {})
    counted = {name: bound for name, bound in bounds.items() if name != LATENCY}
    check_reachable(Space(names, options, cost, {}), counted)
    if all(len(widths) == 1 for widths in options):
        raise ConfigError(
            f"nothing can go: with min_kept = {min_kept:g} and multiple_of = {multiple_of} every group keeps "
            "all of its channels; lower them, or raise caps."
        )
    return Space(names, options, cost, bounds, OBJECTIVES[objective], latencies)


def allowed_widths(width: int, min_kept: float, multiple_of: int) -> np.ndarray:
    """Multiples of `multiple_of` from the floor up, and the dense width itself."""
    # The tiny step keeps 0.05 * 20 from being rounded up to 2.
    floor = max(1, math.ceil(min_kept * width - 1e-9))
    first = math.ceil(floor / multiple_of) * multiple_of
    return np.unique(np.append(np.arange(first, width, multiple_of), width))


def absolute_bounds(cost: CostModel, budget: Mapping[str, float | int]) -> dict[str, float]:
    """A float up to 1 is a fraction of the dense cost, anything above 1 is absolute; milliseconds stay."""
    dense = {"macs": cost.dense_macs, "params": cost.dense_params, "bytes": cost.dense_bytes}
    for name, value in budget.items():
        if name not in (*dense, LATENCY):
            raise ConfigError(unknown_name("budget", name, [*dense, LATENCY]))
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"budget {name} must be a positive number, got {value}.")
    return {
        name: value if name == LATENCY else math.floor(value * dense[name] if value <= 1 else value)
        for name, value in budget.items()
    }


def check_reachable(space: Space, bounds: Bounds) -> None:
    """BudgetError, naming what is reachable, unless the narrowest candidate satisfies every bound."""
    least = space.costs(space.floor[None])
    dense = space.costs(space.dense[None])
    for name, bound in bounds.items():
        reachable = least[name][0]
        if reachable > bound:
            raise unreachable(name, bound, reachable, dense[name][0])


def unreachable(name: str, bound: float, least: float, dense: float) -> BudgetError:
    """A bound that the narrowest candidate, of cost `least`, does not meet."""
    return BudgetError(
        f"budget {name} = {bound:,} cannot be met: with the floors (min_kept, caps, multiple_of) the "
        f"least is {least:,.{2 if name == LATENCY else 0}f}, {least / dense:.1%} of dense. "
        "Raise the budget, lower min_kept or raise caps."
    )


def rates_of(widths: Mapping[str, int], dense: Mapping[str, int]) -> dict[str, float]:
    """Pruning rate per group from kept and dense widths."""
    return {name: 1.0 - kept / dense[name] for name, kept in widths.items()}
