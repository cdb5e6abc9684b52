"""Where a training stands: optimiser, history and the best weights so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoprune.graph.capture import named_state
from autoprune.training.record import Epoch, TrainingResult
from autoprune.training.saved import check_saved

Weights = dict[str, Tensor]


def snapshot(network: nn.Module) -> Weights:
    """A copy of every parameter and buffer."""
    return {name: tensor.detach().clone() for name, tensor in named_state(network).items()}


@torch.no_grad()
def put_back(network: nn.Module, weights: Weights) -> None:
    """Write the values of a snapshot into the network's own tensors."""
    for name, tensor in named_state(network).items():
        tensor.copy_(weights[name])


@dataclass
class TrainingState:
    """Changes after every epoch. `best` holds the weights of `best_epoch`, 0 being those at the start."""

    network: nn.Module
    optimizer: Optimizer
    metric_before: float | None
    best: Weights
    best_metric: float | None
    best_epoch: int = 0
    history: list[Epoch] = field(default_factory=list)

    def add(self, epoch: Epoch) -> None:
        """Record an epoch; its weights are the best ones if its metric is, or if there is no metric."""
        self.history.append(epoch)
        if self.best_metric is None or epoch.metric is None or epoch.metric > self.best_metric:
            self.best, self.best_epoch, self.best_metric = snapshot(self.network), epoch.number, epoch.metric

    def result(self, images: int) -> TrainingResult:
        return TrainingResult(
            history=tuple(self.history),
            best_epoch=self.best_epoch,
            metric_before=self.metric_before,
            metric=self.best_metric,
            images=images,
        )

    def to_save(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "weights": snapshot(self.network),
            "optimizer": self.optimizer.state_dict(),
            "metric_before": self.metric_before,
            "best": self.best,
            "best_metric": self.best_metric,
            "best_epoch": self.best_epoch,
            "history": [asdict(epoch) for epoch in self.history],
        }

    def restore(self, saved: dict[str, Any], source: str) -> None:
        """Stand where `to_save` stood; TrainingError for what does not fit. `source` is named in it."""
        check_saved(saved, self.network, self.optimizer, source)
        put_back(self.network, saved["weights"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.metric_before = saved["metric_before"]
        device = next(self.network.parameters()).device
        self.best = {name: tensor.to(device) for name, tensor in saved["best"].items()}
        self.best_metric, self.best_epoch = saved["best_metric"], saved["best_epoch"]
        self.history = [Epoch(**epoch) for epoch in saved["history"]]
