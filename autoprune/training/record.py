"""What a training reports: one record per epoch, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One finished epoch, counted from 1.

    `loss` is the mean over the images as they were trained on, lower is better; `metric` is what
    `evaluate` gave afterwards, higher is better (None without it). `learning_rate` is that of the last step.
    """

    number: int
    loss: float
    metric: float | None
    learning_rate: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


EpochEnd = Callable[[nn.Module, Epoch], None]
"""A callback: sees the network, in eval mode, and the record of the epoch that has just ended."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What became of a training.

    `metric_before` is that of the network as it was given, `metric` that of the weights it has now (None
    without `evaluate`). `best_epoch` is where these weights come from; 0 where no epoch did better.
    `images` is the number of training images.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    metric_before: float | None
    metric: float | None
    images: int

    @property
    def seconds(self) -> float:
        """Time of all epochs, evaluation included."""
        return sum(epoch.seconds for epoch in self.history)
