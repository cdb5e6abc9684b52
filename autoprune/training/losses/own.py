"""A loss of the user's own, and how a loss is found by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from autoprune.config import TrainingConfig
from autoprune.errors import ConfigError, DataError
from autoprune.importing import import_function
from autoprune.training.losses.base import TaskLoss, task_losses

Judge = Callable[[Any, Tensor], Any]
"""`(outputs, labels) -> differentiable scalar`, the mean over the batch."""

AUTOMATIC = "auto"


@dataclass(frozen=True)
class OwnLoss(TaskLoss):
    """The user's function of outputs, as the network returns them, and labels on the outputs' device.

    It says nothing of a teacher, so it needs `distillation = 0`.
    """

    judge: Judge
    name: str
    unread = frozenset({"label_smoothing", "temperature"})

    def check(self, settings: TrainingConfig) -> None:
        if settings.distillation > 0:
            raise ConfigError(
                f"loss '{self.name}' compares outputs with labels, so it needs distillation = 0, got "
                f"{settings.distillation}; set that in [training]."
            )
        super().check(settings)

    def to_labels(self, output: Any, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        loss = self.judge(output, labels)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            came = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise DataError(f"loss '{self.name}' must return one number with a gradient, got {came}.")
        return loss.reshape(())

    def to_teacher(self, output: Any, teacher: Any, temperature: float = 1.0) -> Tensor:
        raise ConfigError(f"loss '{self.name}' knows no teacher; set distillation = 0 in [training].")


def find_loss(settings: TrainingConfig) -> TaskLoss:
    """The loss that [training] names, "auto" being cross-entropy; ConfigError for an unknown name, with the
    nearest ones, and for settings that the loss does not read."""
    name = "cross-entropy" if settings.loss == AUTOMATIC else settings.loss
    if ":" in name:
        found: TaskLoss = OwnLoss(import_function(name, "loss", ConfigError), name)
    else:
        found = task_losses[name]()
    found.check(settings)
    return found
