"""The front: the candidates that no other beats in accuracy and MACs, and the best within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autoprune.errors import BudgetError, StudyError
from autoprune.searching.fidelity import Fidelity, fidelities
from autoprune.searching.metric_scale import ACCURACY, MetricScale

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Dense:
    """The network before pruning. Costs are for one input; `accuracy` is the metric, higher is better."""

    macs: int
    params: int
    bytes: int
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """One finished trial. Ratios are relative to dense; errors and `proxies` are better when lower.

    `accuracy` is the study's metric, whatever that is (mean IoU, R2, ...); higher is better.
    `accuracy_before_reconstruction` is None where the trial did not join the front. `proxies` are what
    the rungs below the measurement said of the candidate, by name.
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
    builder: Callable[[Point], nn.Module] | None = field(default=None, repr=False, compare=False)

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
        values = {name: getattr(self, name) for name in names.split()}
        mappings = {"widths": self.widths, "rates": self.rates, "proxies": self.proxies}
        return {**values, **{name: dict(mapping) for name, mapping in mappings.items()}}


@dataclass(frozen=True)
class Front:
    """All finished trials of a study; iterating gives the non-dominated ones in order of MACs.

    `metric` says what the accuracy of a point is: `front.metric.shown(point.accuracy)` is how to print it.
    """

    study: str
    dense: Dense
    trials: Sequence[Point]
    metric: MetricScale = ACCURACY

    @property
    def points(self) -> list[Point]:
        """Non-dominated trials (more accurate than every cheaper one), cheapest first."""
        front: list[Point] = []
        for point in sorted(self.trials, key=lambda p: (p.macs, -p.accuracy, p.trial)):
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

    def best(
        self, *, macs: float | None = None, params: float | None = None, bytes: float | None = None
    ) -> Point:
        """Most accurate trial within all given bounds; a bound up to 1 is a fraction of dense.

        Raises BudgetError, naming the cheapest trial, when none is within them.
        """
        bounds = {"macs": macs, "params": params, "bytes": bytes}
        limits = {n: v * getattr(self.dense, n) if v <= 1 else v for n, v in bounds.items() if v is not None}
        inside = [p for p in self.trials if all(getattr(p, n) <= limit for n, limit in limits.items())]
        if not inside:
            raise BudgetError(self._nothing_within(limits))
        return max(inside, key=lambda p: (p.accuracy, -p.macs, -p.trial))

    def takes(self, accuracy: float, macs: int) -> bool:
        """Whether a candidate would join the front: no trial as cheap is as accurate."""
        return all(point.accuracy < accuracy for point in self.trials if point.macs <= macs)

    def of_trial(self, number: int) -> Point:
        """The finished trial with this number; StudyError when there is none."""
        for point in self.trials:
            if point.trial == number:
                return point
        raise StudyError(f"study '{self.study}' has no finished trial {number}; see 'autoprune front'.")

    def to_json(self) -> dict[str, Any]:
        """What `front --json` prints."""
        dense = {name: getattr(self.dense, name) for name in ("macs", "params", "bytes", "accuracy")}
        found = {name: vars(fidelity) for name, fidelity in self.fidelities.items()}
        points = [point.to_json() for point in self.points]
        return {
            "study": self.study,
            "metric": self.metric.name,
            "dense": dense,
            "front": points,
            "fidelity": found,
        }

    def _nothing_within(self, limits: Mapping[str, float]) -> str:
        wanted = ", ".join(f"{name} <= {limit:,.0f}" for name, limit in limits.items())
        if not self.trials:
            return f"study '{self.study}' has no finished trial yet; run 'autoprune search' first."
        least = ", ".join(f"{name} {min(getattr(p, name) for p in self.trials):,}" for name in limits)
        return f"no finished trial has {wanted}; the least so far: {least}. Search with a budget, or longer."
