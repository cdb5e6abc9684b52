"""Metrics over a labelled loader. Anything else is a callable `evaluate(model) -> float` of the user's."""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from autoprune.components import Component
from autoprune.data.inputs import Inputs, concatenate, fast_batches
from autoprune.data.labelled import Labelled, labelled_pair
from autoprune.data.outputs import main_tensor
from autoprune.data.splits import random_order
from autoprune.errors import DataError
from autoprune.layout import layout_for
from autoprune.registry import Registry
from autoprune.searching.metric_scale import MetricScale


class LabelledMetric(Component, ABC):
    """Quality of a network on labelled inputs, higher is better.

    The loader yields (inputs, labels), inputs a tensor or a tuple or dict of them; of more than two items
    the last one is the labels. Each batch adds to a sum, from which the value of the whole follows: it
    does not depend on how the images are batched. Raises DataError for batches, labels and outputs that
    do not fit.
    """

    scale: MetricScale
    loss: ClassVar[str] = "cross-entropy"
    """Name of the loss by which networks that it judges are trained, where the study names none."""

    def __init__(self, loader: Iterable[Any], device: torch.device) -> None:
        whole = [self._labelled(batch, device) for batch in loader]
        larger = whole if device.type == "cpu" else _merged(whole)
        self.batches = [part for inputs, labels in larger for part in _parts(inputs, labels)]
        self.images = sum(len(labels) for _, labels in self.batches)
        self._layout: torch.memory_format | None = None
        if self.images == 0:
            raise DataError("the validation split needs at least one labelled image, got an empty loader.")

    @abstractmethod
    def check_labels(self, labels: Tensor, images: int) -> None:
        """DataError unless the labels of so many images have the right type and shape."""

    @abstractmethod
    def statistic(self, output: Any, labels: Tensor) -> Tensor:
        """What a batch adds to the sum: a tensor of one shape for all batches."""

    @abstractmethod
    def value(self, total: Tensor) -> float:
        """The metric, from the summed statistics of all batches."""

    @property
    def inputs(self) -> list[Inputs]:
        """The inputs alone, for measures that need no labels."""
        return [inputs for inputs, _ in self.batches]

    def first(self, count: int) -> LabelledMetric:
        """The same metric on the first `count` images alone."""
        starts = itertools.accumulate((batch.size for batch in self.inputs), initial=0)
        fewer = copy.copy(self)
        fewer.batches = [
            (inputs.take(count - start), labels[: count - start])
            for start, (inputs, labels) in zip(starts, self.batches, strict=False)
            if start < count
        ]
        fewer.images = min(count, self.images)
        return fewer

    def mixed(self) -> LabelledMetric:
        """The same metric with its images in a fixed random order: the first ones are a sample of all.

        Itself where they have several shapes.
        """
        if not _alike(self.batches):
            return self
        labels = torch.cat([labels for _, labels in self.batches])
        order, other = torch.tensor(self._order(labels)), copy.copy(self)
        inputs = concatenate(self.inputs).select(order).channels_last()
        other.batches = _parts(inputs, labels[order.to(labels.device)])
        other._layout = None
        return other

    def _order(self, labels: Tensor) -> list[int]:
        """A permutation of the images of which every beginning is a fair sample."""
        return random_order(len(labels))

    def smooth(self) -> LabelledMetric:
        """What ranks networks as this metric does, from fewer images; itself where there is no such thing."""
        return self

    def __call__(self, network: nn.Module) -> float:
        return self.observed(network, lambda index, output: None)

    @torch.no_grad()
    def observed(self, network: nn.Module, observe: Callable[[int, Any], None]) -> float:
        """The metric; `observe` sees each batch's number and the network's output on the way."""
        total: Tensor | None = None
        if self._layout is None:
            self._lay_out(layout_for(network, self.inputs[0]))
        for index, (inputs, labels) in enumerate(self.batches):
            output = inputs.call(network)
            observe(index, output)
            part = self.statistic(output, labels)
            total = part if total is None else total + part
        assert total is not None, "there is at least one image"
        return self.value(total)

    def laid_out(self, layout: torch.memory_format) -> LabelledMetric:
        """The same metric with its images in this order in memory; without it, in one that suits the first
        network that is judged."""
        other = copy.copy(self)
        other._lay_out(layout)
        return other

    def _lay_out(self, layout: torch.memory_format) -> None:
        self.batches = [(inputs.laid_out(layout), labels) for inputs, labels in self.batches]
        self._layout = layout

    def _labelled(self, batch: Any, device: torch.device) -> Labelled:
        inputs, labels = labelled_pair(batch)
        inputs, labels = inputs.to(device).channels_last(), labels.to(device)
        self.check_labels(labels, inputs.size)
        for tensor in inputs.tensors:
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise DataError("validation images must be finite, got NaN or infinity; clean them first.")
        return inputs, labels


def main_output(output: Any, what: str) -> Tensor:
    """The tensor that is judged; DataError where there is none."""
    found = main_tensor(output)
    if found is None:
        raise wrong_output(output, what)
    return found


def wrong_output(output: Any, what: str) -> DataError:
    """The error for an output that a metric cannot read; `what` names the metric and what it needs."""
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    return DataError(f"{what}, got {found}; pass your own metric as evaluate(model) -> float.")


def _merged(batches: Sequence[Labelled]) -> Sequence[Labelled]:
    """The batches as one, where they fit together: a GPU is idle on small ones."""
    if not _alike(batches):
        return batches
    return [(concatenate([inputs for inputs, _ in batches]), torch.cat([labels for _, labels in batches]))]


def _alike(batches: Sequence[Labelled]) -> bool:
    """Whether samples and labels have one shape in all batches."""
    return len({(labels.shape[1:], inputs.sample_shapes) for inputs, labels in batches}) == 1


def _parts(inputs: Inputs, labels: Tensor) -> list[Labelled]:
    parts = fast_batches(inputs)
    return list(zip(parts, torch.split(labels, [part.size for part in parts]), strict=True))


metrics: Registry[type[LabelledMetric]] = Registry("metric")
