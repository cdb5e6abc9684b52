"""Losses of classification: cross-entropy and distillation from a teacher.

Distillation: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from autoprune.errors import DataError

IGNORED = -100
"""Label of images that nobody asks about, by torch's custom."""


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the images; scores (batch, classes)."""
    log_student = F.log_softmax(student / temperature, 1)
    log_teacher = F.log_softmax(teacher / temperature, 1)
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def cross_entropy(scores: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of scores (batch, classes) with integer labels (batch,) of 0 to `classes` - 1.

    Labels may be on another device. DataError for other labels.
    """
    if labels.shape != scores.shape[:1] or labels.is_floating_point():
        raise DataError(
            f"labels must be integers of shape ({len(scores)},), got {labels.dtype} {tuple(labels.shape)}; "
            "with distillation = 1 no labels are read."
        )
    odd = labels[((labels < 0) | (labels >= scores.shape[1])) & (labels != IGNORED)]
    if len(odd):
        raise DataError(
            f"labels must be integers of 0 to {scores.shape[1] - 1}, one for each score of the network, got "
            f"{int(odd[0])}; with distillation = 1 no labels are read."
        )
    return F.cross_entropy(scores, labels.long().to(scores.device), label_smoothing=smoothing)


def class_scores(output: Any, who: str = "the network") -> Tensor:
    """The output as scores (batch, classes) in float32 at least; DataError for any other output."""
    if isinstance(output, Tensor) and output.dim() == 2 and output.is_floating_point():
        return output.float() if output.dtype.itemsize < 4 else output
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise DataError(
        f"fine-tuning needs outputs of shape (batch, classes) from {who}, got {found}; "
        "wrap the model so that it returns class scores alone."
    )
