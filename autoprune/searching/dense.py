"""The dense network measured: what a study begins with, and what all candidates are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoprune.data.types import type_hint
from autoprune.errors import DataError
from autoprune.graph import CostModel
from autoprune.graph.capture import first_line
from autoprune.latency import Latency
from autoprune.searching.evaluator import checked
from autoprune.searching.front import Dense
from autoprune.searching.metrics import LabelledMetric
from autoprune.searching.options import Task


@dataclass(frozen=True, kw_only=True)
class DenseNetwork:
    """Costs, accuracy and, where networks are timed, latency of a task's own network."""

    task: Task
    cost: Callable[[], CostModel]
    latency: Callable[[], Latency] | None

    def measure(self) -> Dense:
        cost, latency = self.cost(), None if self.latency is None else self.latency()
        return Dense(
            macs=cost.dense_macs,
            params=cost.dense_params,
            bytes=cost.dense_bytes,
            accuracy=self.accuracy(),
            latency_ms=None if latency is None else latency.ms,
            latency_spread_ms=None if latency is None else latency.spread_ms,
        )

    def accuracy(self) -> float:
        """The study's metric, higher is better; DataError where the network does not run on its inputs."""
        metric = self.task.metric
        try:
            return checked(metric(self.task.model))
        except RuntimeError as error:
            # An error within a function of the user's is the user's to see as it is.
            if not isinstance(metric, LabelledMetric):
                raise
            raise DataError(
                f"the network must run on the validation inputs, got {type(error).__name__}: "
                f"{first_line(error)}; they need the shape and type of the calibration inputs."
                f"{type_hint(self.task.model, metric.inputs[0])}"
            ) from error
