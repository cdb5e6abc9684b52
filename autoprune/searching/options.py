"""What an engine works on: the options of a search, and the task with its network and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from autoprune.components import check_options, create
from autoprune.config import TrainingConfig
from autoprune.criteria import criteria
from autoprune.data.inputs import Inputs
from autoprune.errors import ConfigError, unknown_name
from autoprune.layout import layout_for
from autoprune.reconstruction import reconstructions
from autoprune.searching.evaluator import Metric
from autoprune.searching.metric_scale import ACCURACY
from autoprune.searching.metrics import LabelledMetric, scale_of
from autoprune.searching.space import LATENCY, OBJECTIVES
from autoprune.searching.strategies import strategies
from autoprune.training.history import History
from autoprune.training.recoveries import recoveries


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to search and how to restore; names are resolved in the registries."""

    trials: int = 100
    objective: str = "macs"
    latency_batch: int = 1
    budget: Mapping[str, float | int] = field(default_factory=dict)
    multiple_of: int = 1
    min_kept: float = 0.05
    seed: int = 0
    criterion: str = "second-moment"
    criterion_options: Mapping[str, Any] = field(default_factory=dict)
    batch_removal: Sequence[int] = (1, 2, 4)
    strategy: str = "knapsack"
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    ignore: Sequence[str] = ()
    caps: Mapping[str, float] = field(default_factory=dict)
    reconstruction: str = "sequential"
    reconstruction_options: Mapping[str, Any] = field(default_factory=dict)
    damping: float = 1e-3
    batch_norm: bool = False
    recovery: str = "none"
    recovery_options: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    history_epochs: int = 2

    @property
    def timed(self) -> bool:
        """Whether networks are timed: latency is what the front runs over, or has a budget."""
        return self.objective == "latency" or LATENCY in self.budget

    @property
    def trains(self) -> bool:
        """Whether every trial ends with training."""
        return recoveries[self.recovery].trains

    @property
    def needs_history(self) -> bool:
        return criteria[self.criterion].needs_history or recoveries[self.recovery].needs_history

    def check_names(self) -> None:
        """ConfigError for a name or an option that is in no table, before anything long begins."""
        if self.objective not in OBJECTIVES:
            raise ConfigError(unknown_name("objective", self.objective, OBJECTIVES))
        check_options(criteria, self.criterion, self.criterion_options)
        check_options(strategies, self.strategy, self.strategy_options)
        # Made, for options may contradict each other.
        create(reconstructions, self.reconstruction, self.reconstruction_options)
        recovery = create(recoveries, self.recovery, self.recovery_options)
        if recovery.needs_parent and not strategies[self.strategy].continues:
            raise ConfigError(
                f"recovery '{self.recovery}' is to start from the trial before, from which strategy "
                f"'{self.strategy}' does not continue; leave start out, or choose one of "
                f"{', '.join(name for name in strategies if strategies[name].continues)}."
            )

    def identity(self) -> dict[str, Any]:
        """What must stay the same when a study continues."""
        # Left out where they are as they were before there was a choice: such studies continue.
        objective = {} if self.objective == "macs" else {"objective": self.objective}
        timed = {"latency_batch": self.latency_batch} if self.timed else {}
        return {
            **objective,
            **timed,
            "budget": dict(self.budget),
            "multiple_of": self.multiple_of,
            "min_kept": self.min_kept,
            "criterion": self.criterion,
            "criterion_options": dict(self.criterion_options),
            "batch_removal": list(self.batch_removal),
            "ignore": list(self.ignore),
            "reconstruction": self.reconstruction,
            "reconstruction_options": dict(self.reconstruction_options),
            "damping": self.damping,
            "batch_norm": self.batch_norm,
            "recovery": self._recovery_identity(),
            # Absent where there are none, as in the studies of the time before there were caps.
            **({"caps": dict(self.caps)} if self.caps else {}),
        }

    def _recovery_identity(self) -> dict[str, Any]:
        """Empty where nothing trains, as in the studies of the time before there were recoveries."""
        epochs = {"history_epochs": self.history_epochs} if self.needs_history else {}
        if not self.trains:
            return epochs
        options, training = dict(self.recovery_options), self.training.identity()
        how = {"method": self.recovery, "options": options, "training": training}
        return {**how, **epochs}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A network and what it is judged by. The model is in eval mode on the device that does the work.

    `chunks` are calibration inputs, `probe` inputs the network was not trained on (both on that device).
    `fingerprints` tell a study's model and data apart from others. `training` yields (input, label) pairs,
    for recoveries that train and for gradients of the loss; `history` is that of the network's own training,
    where it was recorded.
    """

    name: str
    model: nn.Module
    chunks: Sequence[Inputs]
    probe: Sequence[Inputs]
    metric: Metric
    fingerprints: Mapping[str, str]
    training: Dataset[Any] | None = None
    history: History | None = None

    def identity(self) -> dict[str, str]:
        """What must stay the same when a study continues; a metric that is not named here is the accuracy, as
        in the studies of the time before there were others, or a function that judges whole networks."""
        judged = isinstance(self.metric, LabelledMetric) and self.metric.scale != ACCURACY
        return {**self.fingerprints, **({"metric": scale_of(self.metric).name} if judged else {})}

    def laid_out(self) -> Task:
        """The same task with its images in the order in memory that suits the model."""
        layout, metric = layout_for(self.model, self.chunks[0]), self.metric
        chunks, probe = ([inputs.laid_out(layout) for inputs in part] for part in (self.chunks, self.probe))
        metric = metric.laid_out(layout) if isinstance(metric, LabelledMetric) else metric
        return replace(self, chunks=chunks, probe=probe, metric=metric)

    @property
    def device(self) -> torch.device:
        """Where the work is done: where the inputs are."""
        return self.chunks[0].tensors[0].device
