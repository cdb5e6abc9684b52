"""The front: the candidates that no other beats in accuracy and cost, and the best within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from autoprune.errors import BudgetError, ConfigError, StudyError, unknown_name
from autoprune.searching.fidelity import Fidelity, fidelities
from autoprune.searching.metric_scale import ACCURACY, MetricScale
from autoprune.searching.space import LATENCY, OBJECTIVES

if TYPE_CHECKING:
    from torch import Tensor, nn


UNITS = {"macs": "MACs", "params": "parameters", "latency": "latency"}
"""What a front runs over, in words: "half of the MACs"."""


@dataclass(frozen=True, kw_only=True)
class Dense:
    """The network before pruning. Costs are for one input; `accuracy` is the metric, higher is better.

    Latency is that of one batch, with the distance between the quartiles; None where networks are not timed.
    """

    macs: int
    params: int
    bytes: int
    accuracy: float
    latency_ms: float | None = None
    latency_spread_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Point:
    """One finished trial. Ratios are relative to dense; errors and `proxies` are better when lower.

    `accuracy` is the study's metric, whatever that is (mean IoU, R2, ...); higher is better.
    `accuracy_before_reconstruction` is None where the trial did not join the front. `proxies` are what
    the rungs below the measurement said of the candidate, by name. Latencies are None where the study does
    not time its networks: the median of the whole network, measured, the distance between the quartiles,
    and what the table of measured layers had predicted.
    """

    trial: int
    macs: int
    macs_ratio: float
    params: int
    params_ratio: float
    bytes: int
    accuracy: float
    accuracy_before_reconstruction: float | None
    output_error: float
    widths: Mapping[str, int]
    rates: Mapping[str, float]
    batch_removal: int
    criterion: str
    kept: Mapping[str, Tensor] = field(repr=False)
    proxies: Mapping[str, float] = field(default_factory=dict, repr=False)
    latency_ms: float | None = None
    latency_spread_ms: float | None = None
    latency_predicted_ms: float | None = None
    builder: Callable[[Point], nn.Module] | None = field(default=None, repr=False, compare=False)

    def within(self, limits: Mapping[str, float]) -> bool:
        """Whether every cost is at most its limit, by name."""
        costs = {name: self.bounded(name) for name in limits}
        return all(cost is not None and cost <= limits[name] for name, cost in costs.items())

    def bounded(self, name: str) -> float | None:
        """What a limit of this name bounds: the cost; of a latency, the median plus the spread."""
        value: float | None = getattr(self, name)
        if name != LATENCY or value is None:
            return value
        return value + (self.latency_spread_ms or 0.0)

    def build(self) -> nn.Module:
        """The pruned network with restored weights: a module of the user's own class, in eval mode."""
        if self.builder is None:
            raise StudyError(
                f"trial {self.trial} was read from storage without its model; "
                "use 'autoprune build', or autoprune.search with the same storage and name."
            )
        return self.builder(self)

    def to_json(self) -> dict[str, Any]:
        """What `front --json` prints for one point."""
        names = (
            "trial macs macs_ratio params params_ratio bytes accuracy accuracy_before_reconstruction "
            "output_error batch_removal criterion"
        )
        values = {name: getattr(self, name) for name in names.split()} | timed(self)
        values["output_error"] = finite(self.output_error)
        proxies = {name: finite(value) for name, value in self.proxies.items()}
        mappings = {"widths": self.widths, "rates": self.rates, "proxies": proxies}
        return {**values, **{name: dict(mapping) for name, mapping in mappings.items()}}


def finite(value: float | None) -> float | None:
    """None in place of what JSON has no number for: the outputs of a broken candidate may be anything."""
    return value if value is not None and math.isfinite(value) else None


def timed(of: Dense | Point) -> dict[str, float]:
    """Latencies by name, where there are any."""
    names = (LATENCY, "latency_spread_ms", "latency_predicted_ms")
    return {name: value for name in names if (value := getattr(of, name, None)) is not None}


def _nearness(point: Point) -> float:
    return -point.output_error if math.isfinite(point.output_error) else -math.inf


RANKINGS: Mapping[str, Callable[[Point], float]] = {
    "accuracy": lambda point: point.accuracy,
    "output-error": _nearness,
}
"""What the trials within a budget can be ranked by; the key is higher for the better."""


@dataclass(frozen=True)
class Front:
    """All finished trials of a study; iterating gives the non-dominated ones in order of cost.

    `metric` says what the accuracy of a point is: `front.metric.shown(point.accuracy)` is how to print it.
    `objective` is what the front runs over beside it: macs, params or latency. A trial that was
    measured above `latency_bound`, the study's budget in milliseconds, is on no front.
    """

    study: str
    dense: Dense
    trials: Sequence[Point]
    metric: MetricScale = ACCURACY
    objective: str = "macs"
    latency_bound: float | None = None

    def over(self, objective: str) -> Front:
        """The same trials with their front over another cost.

        Raises ConfigError for an unknown one, StudyError for latency where the networks were not timed.
        """
        if objective not in OBJECTIVES:
            raise ConfigError(unknown_name("cost", objective, OBJECTIVES))
        if objective == "latency" and self.dense.latency_ms is None:
            raise StudyError(
                f"study '{self.study}' did not time its networks; search with objective = \"latency\" or a "
                "budget of latency_ms, under another name."
            )
        return replace(self, objective=objective)

    def cost(self, of: Point | Dense) -> float:
        """What the front runs over, of a point or the dense network."""
        value = getattr(of, OBJECTIVES[self.objective])
        return float("inf") if value is None else value

    @property
    def dense_cost(self) -> float:
        return self.cost(self.dense)

    def share(self, point: Point) -> float:
        """The point's cost as a share of the dense network's."""
        return self.cost(point) / self.dense_cost

    @property
    def too_slow(self) -> list[Point]:
        """Trials that were predicted to be within the study's budget of latency, but measured above it."""
        limit = self.latency_bound
        return [] if limit is None else [p for p in self.trials if not p.within({LATENCY: limit})]

    @property
    def in_bound(self) -> list[Point]:
        """Trials that are not `too_slow`."""
        slow = {point.trial for point in self.too_slow}
        return [point for point in self.trials if point.trial not in slow]

    @property
    def points(self) -> list[Point]:
        """Non-dominated trials (more accurate than every cheaper one), cheapest first."""
        front: list[Point] = []
        for point in sorted(self.in_bound, key=lambda p: (self.cost(p), -p.accuracy, p.trial)):
            if not front or point.accuracy > front[-1].accuracy:
                front.append(point)
        return front

    @property
    def fidelities(self) -> dict[str, Fidelity]:
        """How well each proxy ranks trials of nearly equal MACs, where there are enough of them."""
        return fidelities(self.trials)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, place: int) -> Point:
        """The point at this place of the front, cheapest first."""
        return self.points[place]

    def best(
        self,
        *,
        macs: float | None = None,
        params: float | None = None,
        bytes: float | None = None,
        latency_ms: float | None = None,
        by: str = "accuracy",
    ) -> Point:
        """Most accurate trial within all given bounds, and the study's own of latency; a bound up to 1 is a
        fraction of dense.

        `latency_ms` is in milliseconds: the measured median plus the spread is at most that. With
        `by="output-error"` the trial whose outputs are nearest to the dense network's on validation images
        (calibration images where a function judges whole networks): where few validation images tell
        near-equals apart by luck, that is the better guess at new images (studies/LOG.md, 2026-11-26); it
        says nothing of trained trials. Raises BudgetError, naming the cheapest trial, when none is within
        the bounds, ConfigError for a bound that is no positive number and an unknown `by`.
        """
        if by not in RANKINGS:
            raise ConfigError(f"trials rank by {' or '.join(RANKINGS)}, got '{by}'.")
        bounds = {"macs": macs, "params": params, "bytes": bytes}
        for name, value in {**bounds, LATENCY: latency_ms}.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < float("inf")):
                raise ConfigError(f"the bound {name} must be a positive number, got {value!r}.")
        limits = {n: v * getattr(self.dense, n) if v <= 1 else v for n, v in bounds.items() if v is not None}
        if latency_ms is not None:
            _ = self.over("latency")
            limits[LATENCY] = latency_ms
        if self.latency_bound is not None:
            limits[LATENCY] = min(self.latency_bound, limits.get(LATENCY, self.latency_bound))
        inside = [p for p in self.trials if p.within(limits)]
        if not inside:
            raise BudgetError(self._nothing_within(limits))
        return max(inside, key=lambda p: (RANKINGS[by](p), -self.cost(p), -p.trial))

    def takes(self, accuracy: float, cost: float) -> bool:
        """Whether a candidate of this cost would join the front: no trial as cheap is as accurate."""
        return all(point.accuracy < accuracy for point in self.in_bound if self.cost(point) <= cost)

    def of_trial(self, number: int) -> Point:
        """The finished trial with this number; StudyError when there is none."""
        for point in self.trials:
            if point.trial == number:
                return point
        raise StudyError(f"study '{self.study}' has no finished trial {number}; see 'autoprune front'.")

    def to_json(self) -> dict[str, Any]:
        """What `front --json` prints."""
        dense = {name: getattr(self.dense, name) for name in ("macs", "params", "bytes", "accuracy")}
        dense |= timed(self.dense)
        found = {name: vars(fidelity) for name, fidelity in self.fidelities.items()}
        points = [point.to_json() for point in self.points]
        over = {} if self.objective == "macs" else {"objective": self.objective}
        return {
            "study": self.study,
            "metric": self.metric.name,
            "dense": dense,
            "front": points,
            "fidelity": found,
            **over,
        }

    def _nothing_within(self, limits: Mapping[str, float]) -> str:
        digits = {LATENCY: 2}
        wanted = ", ".join(f"{name} <= {limit:,.{digits.get(name, 0)}f}" for name, limit in limits.items())
        if not self.trials:
            return f"study '{self.study}' has no finished trial yet; run 'autoprune search' first."
        found = {name: [v for p in self.trials if (v := p.bounded(name)) is not None] for name in limits}
        least = ", ".join(
            f"{name} {min(values):,.{digits.get(name, 0)}f}" for name, values in found.items() if values
        )
        spread = " (median plus spread)" if LATENCY in limits else ""
        return (
            f"no finished trial has {wanted}{spread}; the least so far: {least}. Search with a budget, or "
            "longer."
        )
