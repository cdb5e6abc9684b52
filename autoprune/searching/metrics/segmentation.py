"""Metrics of semantic segmentation: the output has a score per class and pixel.

The network gives (batch, classes, height, width), alone or as entry "out" of a dict, as torchvision's do;
labels are integers (batch, height, width), of which 255 and -100 count nowhere.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from autoprune.data.labelled import UNLABELLED, is_labelled
from autoprune.errors import DataError
from autoprune.searching.metric_scale import MetricScale
from autoprune.searching.metrics.base import LabelledMetric, main_output, metrics, wrong_output

NEEDED = "a metric of pixels needs outputs of shape (batch, classes, height, width)"


class PerPixel(LabelledMetric):
    """What metrics of pixels share: the confusion matrix (classes, classes), true class by row."""

    loss = "pixel-cross-entropy"

    def check_labels(self, labels: Tensor, images: int) -> None:
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if labels.dim() != 3 or len(labels) != images or not whole:
            raise DataError(
                f"labels of pixels must be integers of shape ({images}, height, width), got "
                f"{labels.dtype} {tuple(labels.shape)}."
            )

    def statistic(self, output: Any, labels: Tensor) -> Tensor:
        scores = main_output(output, NEEDED)
        if scores.dim() != 4:
            raise wrong_output(scores, NEEDED)
        if (len(scores), *scores.shape[2:]) != tuple(labels.shape):
            raise DataError(
                f"scores {tuple(scores.shape)} must have the height and width of their labels "
                f"{tuple(labels.shape)}; let the network's output be resized to the labels' size."
            )
        classes, counted = scores.shape[1], is_labelled(labels)
        true, found = labels[counted].long(), scores.argmax(1)[counted]
        if len(true) and not 0 <= int(true.min()) <= int(true.max()) < classes:
            raise DataError(
                f"labels of pixels must be 0 to {classes - 1}, as the network gives {classes} scores, or "
                f"{UNLABELLED} to be ignored; got {int(true.min())} to {int(true.max())}."
            )
        return torch.bincount(true * classes + found, minlength=classes**2).reshape(classes, classes)

    def value(self, total: Tensor) -> float:
        if int(total.sum()) == 0:
            raise DataError(f"a metric of pixels needs labelled pixels, but all are {UNLABELLED} (ignored).")
        return self.of_confusion(total.double())

    @abstractmethod
    def of_confusion(self, confusion: Tensor) -> float:
        """The metric from pixels by true class (row) and predicted class (column), (classes, classes)."""


@metrics.register("pixel-accuracy")
class PixelAccuracy(PerPixel):
    """Share of pixels whose largest score is their label's, 0..1; pixels labelled 255 are ignored."""

    scale = MetricScale(name="pixel-accuracy", share=True, floor=0.0)

    def of_confusion(self, confusion: Tensor) -> float:
        return float(confusion.trace() / confusion.sum())


@metrics.register("mean-iou")
class MeanIoU(PerPixel):
    """Intersection over union of predicted and true pixels, 0..1, mean over the classes that occur.

    A class occurs where a label or a prediction names it. Pixels labelled 255 are ignored. Pixels of all
    images are counted together, as for Pascal VOC.
    """

    citation = "Everingham et al., IJCV 111, 2015"

    scale = MetricScale(name="mean-iou", share=True, floor=0.0)

    def of_confusion(self, confusion: Tensor) -> float:
        union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
        return float((confusion.diag() / union)[union > 0].mean())
