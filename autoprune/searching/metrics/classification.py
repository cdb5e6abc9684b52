"""Metrics of classifiers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autoprune.data.labelled import Labelled
from autoprune.data.splits import stratified_order
from autoprune.errors import DataError
from autoprune.searching.metric_scale import ACCURACY
from autoprune.searching.metrics.base import LabelledMetric, metrics, wrong_output


@metrics.register("accuracy")
class Accuracy(LabelledMetric):
    """Share of inputs whose largest output is their label, 0..1.

    Integer labels (batch,); the network gives (batch, classes).
    """

    scale = ACCURACY
    _greatest = 0

    def check_labels(self, labels: Tensor, images: int) -> None:
        if labels.dim() != 1 or len(labels) != images or labels.is_floating_point():
            advice = "for other labels name another metric, such as mean-iou or r2."
            if labels.dim() == 0:
                advice = "wrap a dataset of single images in a DataLoader."
            raise DataError(
                f"labels must be integers of shape ({images},), got {labels.dtype} {tuple(labels.shape)}; "
                f"{advice}"
            )
        if images == 0:
            return
        least, greatest = int(labels.min()), int(labels.max())
        if least < 0:
            raise DataError(f"labels must be classes from 0 on, got {least}; leave such images out.")
        self._greatest = max(self._greatest, greatest)

    def _labelled(self, batch: Any, device: torch.device) -> Labelled:
        inputs, labels = super()._labelled(batch, device)
        # What indexes outputs must be of this type; loaders give smaller ones, or truth values.
        return inputs, labels.long()

    def statistic(self, output: Any, labels: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.dim() != 2:
            raise wrong_output(output, "accuracy needs outputs of shape (batch, classes)")
        if self._greatest >= output.shape[1]:
            raise DataError(
                f"labels must be below {output.shape[1]}, the number of the network's outputs, got "
                f"{self._greatest}; check that network and data set belong together."
            )
        return torch.stack([(output.argmax(1) == labels).sum(), labels.new_tensor(len(labels))])

    def value(self, total: Tensor) -> float:
        hits, images = total.tolist()
        return float(hits / images)

    def _order(self, labels: Tensor) -> list[int]:
        return stratified_order(labels.tolist())

    def smooth(self) -> LabelledMetric:
        # Of a class of the user's nobody knows what it counts.
        if type(self) is not Accuracy:
            return self
        smooth = SmoothAccuracy.__new__(SmoothAccuracy)
        smooth.__dict__.update(self.__dict__)
        return smooth


class SmoothAccuracy(Accuracy):
    """Mean sigmoid of the margin: the output of the label less the greatest of the others, 0..1.

    It counts by how much an input is on the right side: of candidates with the same accuracy on few images
    it tells which has more on many (see studies/LOG.md).
    """

    def statistic(self, output: Any, labels: Tensor) -> Tensor:
        _, images = super().statistic(output, labels)
        # What is not a number is on no side of the label: it counts nothing, and ends no search.
        right = margins(output, labels).double().sigmoid().nan_to_num(0.0)
        return torch.stack([right.sum(), images.double()])


def margins(outputs: Tensor, labels: Tensor) -> Tensor:
    """Output of the label less the greatest of the others, (batch,), from outputs (batch, classes)."""
    own = labels[:, None]
    return outputs.gather(1, own)[:, 0] - outputs.scatter(1, own, -torch.inf).amax(1)
