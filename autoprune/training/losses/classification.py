"""Losses of classification: cross-entropy and distillation from a teacher.

Distillation: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from autoprune.data.labelled import IGNORED
from autoprune.errors import DataError
from autoprune.training.losses.base import TaskLoss, single, task_losses


@task_losses.register("cross-entropy")
class CrossEntropy(TaskLoss):
    """Cross-entropy of class scores, and the teacher's distribution over the classes.

    The network gives (batch, classes); integer labels (batch,).
    """

    citation = "Hinton, Vinyals and Dean, 2015"
    moves_images = "always"

    def to_labels(self, output: Any, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        return cross_entropy(class_scores(output), labels, smoothing)

    def to_teacher(self, output: Any, teacher: Any, temperature: float = 1.0) -> Tensor:
        return distillation_loss(class_scores(output), class_scores(teacher, "the teacher"), temperature)


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the images; scores (batch, classes)."""
    log_student = F.log_softmax(student / temperature, 1)
    log_teacher = F.log_softmax(teacher / temperature, 1)
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def cross_entropy(scores: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of scores (batch, classes) with integer labels (batch,) of 0 to `classes` - 1.

    Labels may be on another device; those of -100 count nowhere, 0 where all are so. DataError for others.
    """
    if labels.shape != scores.shape[:1] or labels.is_floating_point():
        raise DataError(
            f"labels must be integers of shape ({len(scores)},), got {labels.dtype} {tuple(labels.shape)}; "
            "with distillation = 1 no labels are read, and `autoprune methods loss` lists what fits others."
        )
    odd = labels[((labels < 0) | (labels >= scores.shape[1])) & (labels != IGNORED)]
    if len(odd):
        raise DataError(
            f"labels must be integers of 0 to {scores.shape[1] - 1}, one for each score of the network, got "
            f"{int(odd[0])}; with distillation = 1 no labels are read."
        )
    labels = labels.long().to(scores.device)
    summed = F.cross_entropy(scores, labels, label_smoothing=smoothing, reduction="sum")
    return summed / (labels != IGNORED).sum().clamp_min(1)


def class_scores(output: Any, who: str = "the network") -> Tensor:
    """The output as scores (batch, classes) in float32 at least; DataError for any other output."""
    return single(output, "(batch, classes)", who, dims=2)
