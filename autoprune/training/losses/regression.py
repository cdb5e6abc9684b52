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
        if labels.is_complex() or _lengths(labels) != _lengths(found):
            raise DataError(
                f"targets must be numbers of shape {tuple(found.shape)} as the network gives, got "
                f"{labels.dtype} {tuple(labels.shape)}."
            )
        return F.mse_loss(_rows(found), _rows(labels).to(found))

    def to_teacher(self, output: Any, teacher: Any, temperature: float = 1.0) -> Tensor:
        return F.mse_loss(_rows(_values(output)), _rows(_values(teacher, "the teacher")))


def _values(output: Any, who: str = "the network") -> Tensor:
    return single(output, "(batch,) or (batch, values, ...)", who)


def _lengths(values: Tensor) -> list[int]:
    """Images, and the dimensions behind that are longer than one: (batch,) is (batch, 1)."""
    return [*values.shape[:1], *(size for size in values.shape[1:] if size > 1)]


def _rows(values: Tensor) -> Tensor:
    """(batch,) or (batch, values, ...) -> (batch, values)."""
    return values.reshape(len(values), -1) if values.dim() else values.reshape(1, 1)
