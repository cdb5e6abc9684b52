"""The loss of regression."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from autoprune.errors import DataError
from autoprune.training.losses.base import TaskLoss, single, task_losses


@task_losses.register("squared-error")
class SquaredError(TaskLoss):
    """Mean squared difference from the targets, and from the teacher's values.

    The network gives (batch,) or (batch, values, ...), real targets as many. Images are moved only where
    [training] names an augmentation: an angle or a place changes with the image.
    """

    unread = frozenset({"label_smoothing", "temperature"})

    def to_labels(self, output: Any, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        found = _values(output)
        if labels.is_complex() or _rows(labels).shape != found.shape:
            raise DataError(
                f"targets must be numbers, {found.shape[1]} for each of {len(found)} images as the network "
                f"gives, got {labels.dtype} {tuple(labels.shape)}."
            )
        return F.mse_loss(found, _rows(labels).to(found))

    def to_teacher(self, output: Any, teacher: Any, temperature: float = 1.0) -> Tensor:
        return F.mse_loss(_values(output), _values(teacher, "the teacher"))


def _values(output: Any, who: str = "the network") -> Tensor:
    return _rows(single(output, "(batch,) or (batch, values, ...)", who))


def _rows(values: Tensor) -> Tensor:
    """(batch,) or (batch, values, ...) -> (batch, values)."""
    return values.reshape(len(values), -1) if values.dim() else values.reshape(1, 1)
