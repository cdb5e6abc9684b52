"""Metrics of regression."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autoprune.errors import DataError
from autoprune.searching.metric_scale import MetricScale
from autoprune.searching.metrics.base import LabelledMetric, main_output, metrics


@metrics.register("r2")
class R2(LabelledMetric):
    """Coefficient of determination: 1 is perfect, 0 no better than the mean target, and it may be negative.

    Real targets (batch,) or (batch, values), the network gives as many values for each; of several values the
    mean over them is taken.
    """

    scale = MetricScale(name="r2", floor=0.0)
    loss = "squared-error"

    def check_labels(self, labels: Tensor, images: int) -> None:
        if labels.dim() not in (1, 2) or len(labels) != images or not labels.is_floating_point():
            raise DataError(
                f"targets must be floating-point of shape ({images},) or ({images}, values), got "
                f"{labels.dtype} {tuple(labels.shape)}."
            )
        if not bool(labels.isfinite().all()):
            raise DataError("targets must be finite, got NaN or infinity; clean them first.")

    def statistic(self, output: Any, labels: Tensor) -> Tensor:
        what = "r2 needs outputs of shape (batch,) or (batch, values)"
        found, wanted = _rows(main_output(output, what)), _rows(labels)
        if found.shape != wanted.shape:
            raise DataError(
                f"{what}, as many as the targets of shape {tuple(wanted.shape)}, got {tuple(found.shape)}."
            )
        return (found.double() - wanted.double()).square().sum(0)

    def value(self, total: Tensor) -> float:
        targets = torch.cat([_rows(labels).double() for _, labels in self.batches])
        spread = (targets - targets.mean(0)).square().sum(0)
        if bool((spread <= 0).any()):
            raise DataError("r2 needs targets that differ between images, got the same one for all.")
        return float((1 - total / spread).mean())


def _rows(values: Tensor) -> Tensor:
    """(batch,) or (batch, values, ...) -> (batch, values)."""
    return values.reshape(len(values), -1)
