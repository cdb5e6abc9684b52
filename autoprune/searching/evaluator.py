"""Build a candidate for real, restore it, and measure it before and after."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from autoprune.data.inputs import Inputs
from autoprune.data.outputs import flatten
from autoprune.errors import DataError
from autoprune.graph.groups import Kept
from autoprune.graph.slicing import Slicer
from autoprune.latency import Latency
from autoprune.reconstruction.base import Bench, Reconstruction
from autoprune.reconstruction.batch_norm import re_estimate
from autoprune.searching.metrics import LabelledMetric
from autoprune.searching.outputs import OutputError
from autoprune.tensors import as_number


class NotFinite(DataError):
    """A network's metric is NaN or infinite."""

    def __init__(self, number: float) -> None:
        super().__init__(f"the metric must be a finite number (higher is better), got {number}.")


Metric = Callable[[nn.Module], float]
"""Quality of a network, higher is better."""


@dataclass(frozen=True)
class Measurement:
    """Metric after and before reconstruction (higher is better), output error and latency after it (lower).

    Before reconstruction it is None where nobody wanted to know, the latency where nothing is timed.
    """

    accuracy: float
    accuracy_before_reconstruction: float | None
    output_error: float
    latency: Latency | None = None


Wanted = Callable[[float, Latency | None], bool]
"""Of the metric after reconstruction: is the one before it worth another pass over the images?"""


def always(accuracy: float, latency: Latency | None) -> bool:
    return True


class Evaluator:
    """Measures candidates one after another on a single network, whose tensors are swapped.

    The dense model is never touched, and no trial copies it: memory stays flat however many trials run.
    """

    def __init__(
        self,
        bench: Bench,
        reconstruction: Reconstruction,
        metric: Metric,
        output_error: OutputError,
        *,
        batch_norm: bool = False,
        latency: Callable[[nn.Module], Latency] | None = None,
    ) -> None:
        self.bench, self.reconstruction = bench, reconstruction
        self.metric, self.output_error, self.batch_norm = metric, output_error, batch_norm
        self.latency = latency
        self._same_images = isinstance(metric, LabelledMetric) and leads(output_error.batches, metric.inputs)
        self.slicer = Slicer(bench.model, bench.graph)
        self._network = self.slicer.build(bench.graph.all_kept())
        # A reconstruction may change tensors that no group runs through.
        self._parameters = {name: tensor.detach() for name, tensor in bench.model.named_parameters()}
        self._buffers = {name: tensor.clone() for name, tensor in bench.model.named_buffers()}

    @torch.no_grad()
    def sliced(self, kept: Kept) -> nn.Module:
        """The working network as this candidate, weights as sliced. Valid until the next call."""
        complete = {**self.bench.graph.all_kept(), **kept}
        # Copies of the buffers: batch norm works on them in place.
        buffers = {name: buffer.clone() for name, buffer in self._buffers.items()}
        tensors = {**self._parameters, **buffers, **self.slicer.state(complete)}
        self.slicer.apply(self._network, tensors, complete)
        return self._network.eval()

    @torch.no_grad()
    def restored(self, kept: Kept) -> nn.Module:
        """The working network as this candidate, reconstructed. Valid until the next call."""
        network = self.sliced(kept)
        self._restore(network, kept)
        return network

    @torch.no_grad()
    def build(self, kept: Kept) -> nn.Module:
        """The reconstructed candidate as a network of its own, of the user's class, in eval mode."""
        network = self.slicer.build(kept).eval()
        self._restore(network, kept)
        return network

    @torch.no_grad()
    def measure(self, kept: Kept, before: Wanted = always) -> Measurement:
        return self.measure_trained(self.restored(kept), kept, before)

    @torch.no_grad()
    def measure_trained(self, network: nn.Module, kept: Kept, before: Wanted = always) -> Measurement:
        """As `measure`, for a candidate whose weights were trained."""
        accuracy, error = self._judge(network)
        latency = None if self.latency is None else self.latency(network)
        wanted = before(checked(accuracy), latency)
        return Measurement(accuracy, self._before(kept) if wanted else None, error, latency)

    def _before(self, kept: Kept) -> float | None:
        """The metric of the candidate as sliced; None where that is no finite number: it is told beside the
        measurement, which it must not cost."""
        try:
            return checked(self.metric(self.sliced(kept)))
        except NotFinite:
            return None

    @torch.no_grad()
    def error(self, kept: Kept) -> float:
        """Output error of the restored candidate alone, lower is better."""
        return self.output_error(self.restored(kept))

    @torch.no_grad()
    def judged(self, kept: Kept) -> tuple[float, float | None]:
        """Output error of the restored candidate, and 1 - metric where the metric has labels; both lower."""
        network = self.restored(kept)
        if not isinstance(self.metric, LabelledMetric):
            return self.output_error(network), None
        accuracy, error = self._judge(network)
        # A broken candidate ranks last and ends no search.
        if not (math.isfinite(error) and math.isfinite(accuracy)):
            return math.inf, None
        return error, 1.0 - accuracy

    def _judge(self, network: nn.Module) -> tuple[float, float]:
        """Metric and output error; one pass serves both where the metric runs over the same images."""
        if not isinstance(self.metric, LabelledMetric) or not self._same_images:
            return self.metric(network), self.output_error(network)
        squares: list[float] = []
        dense, inputs = self.output_error.outputs, self.metric.inputs

        def observe(index: int, output: Any) -> None:
            if index < len(dense):
                rows = flatten(output, inputs[index].size)[: len(dense[index])]
                squares.append(self.output_error.batch_error(rows, dense[index]))

        accuracy = self.metric.observed(network, observe)
        return accuracy, sum(squares) / self.output_error.power

    def _restore(self, network: nn.Module, kept: Kept) -> None:
        self.reconstruction.restore(self.bench, network, kept)
        if self.batch_norm:
            re_estimate(network, self.bench.chunks)


def leads(part: Sequence[Inputs], whole: Sequence[Inputs]) -> bool:
    """Whether the batches of `part` are the first images of the batches of `whole`."""
    pairs = list(zip(part, whole, strict=False))
    return len(part) <= len(whole) and all(
        len(a.tensors) == len(b.tensors)
        and all(torch.equal(x, y[: len(x)]) for x, y in zip(a.tensors, b.tensors, strict=True))
        for a, b in pairs
    )


def checked(value: Any) -> float:
    """A metric must be a finite number."""
    number = as_number(value)
    if not number == number or abs(number) == float("inf"):
        raise NotFinite(number)
    return number
