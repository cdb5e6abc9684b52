"""A metric of the user's own, batch by batch, and how a metric is found by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from autoprune.errors import AutopruneError, ConfigError, DataError
from autoprune.importing import import_function
from autoprune.searching.metric_scale import MetricScale
from autoprune.searching.metrics.base import LabelledMetric, metrics

Judge = Callable[[Any, Tensor], Any]
"""`(outputs, labels) -> number`, the mean over the batch, higher is better."""
Make = Callable[[Iterable[Any], torch.device], LabelledMetric]


class OwnMetric(LabelledMetric):
    """The mean of `judge(outputs, labels)` over all images: the value of a batch counts by its size.

    `outputs` are as the network gives them, `labels` any tensor with one row per image.
    """

    def __init__(self, judge: Judge, loader: Iterable[Any], device: torch.device) -> None:
        self.judge = judge
        self.scale = MetricScale(name=name_of(judge))
        super().__init__(loader, device)

    def check_labels(self, labels: Tensor, images: int) -> None:
        if labels.dim() == 0 or len(labels) != images:
            found = tuple(labels.shape)
            raise DataError(f"labels must have one row for each of {images} images, got {found}.")

    def statistic(self, output: Any, labels: Tensor) -> Tensor:
        try:
            value = float(self.judge(output, labels))
        except AutopruneError:
            raise
        except Exception as error:
            # Whatever a function of the user's may raise.
            raise DataError(
                f"metric '{self.scale.name}' must return one number for (outputs, labels): "
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
            ) from error
        return torch.tensor([value * len(labels), len(labels)], dtype=torch.float64)

    def value(self, total: Tensor) -> float:
        summed, images = total.tolist()
        return float(summed / images)


def find_metric(metric: str | Judge) -> Make:
    """What makes the metric over a loader on a device: a name, an import path, or a function of the user's.

    A function is called as `(outputs, labels) -> number` per batch; a class derived from LabelledMetric is
    taken as it is. ConfigError for anything else, with the nearest names.
    """
    found = metric
    if isinstance(metric, str):
        found = import_function(metric, "metric", ConfigError) if ":" in metric else metrics[metric]
    if isinstance(found, type) and issubclass(found, LabelledMetric):
        return found
    if not callable(found):
        raise ConfigError(
            f"metric must be a name ({', '.join(metrics)}), an import path 'package.module:function' or a "
            f"function (outputs, labels) -> number, got {type(metric).__name__}."
        )
    judge: Judge = found
    return lambda loader, device: OwnMetric(judge, loader, device)


def scale_of(metric: object) -> MetricScale:
    """Name and scale of whatever judges a network; of a function nothing but its name is known."""
    return metric.scale if isinstance(metric, LabelledMetric) else MetricScale(name=name_of(metric))


def name_of(function: object) -> str:
    name = str(getattr(function, "__name__", type(function).__name__))
    return name if name.isidentifier() else "metric"
