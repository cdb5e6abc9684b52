"""Metrics over a labelled loader. Anything else is a callable `evaluate(model) -> float` of the user's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs, fast_batches
from autoprune.errors import DataError


class Accuracy:
    """Share of images whose largest output is their label, 0..1, higher is better.

    The loader yields (inputs, labels) with integer labels (batch,); the network gives (batch, classes).
    """

    def __init__(self, loader: Iterable[Any], device: torch.device) -> None:
        whole = [_labelled(batch, device) for batch in loader]
        self.batches = [part for inputs, labels in whole for part in _parts(inputs, labels)]
        self.images = sum(len(labels) for _, labels in self.batches)
        if self.images == 0:
            raise DataError("the validation split needs at least one labelled image, got an empty loader.")

    @property
    def inputs(self) -> list[Inputs]:
        """The inputs alone, for measures that need no labels."""
        return [inputs for inputs, _ in self.batches]

    def first(self, count: int) -> Accuracy:
        """The accuracy on the first `count` images alone."""
        starts = itertools.accumulate((batch.size for batch in self.inputs), initial=0)
        parts = [
            (inputs.take(count - start), labels[: count - start])
            for start, (inputs, labels) in zip(starts, self.batches, strict=False)
            if start < count
        ]
        return Accuracy(parts, self.batches[0][1].device)

    def __call__(self, network: nn.Module) -> float:
        return self.observed(network, lambda index, scores: None)

    @torch.no_grad()
    def observed(self, network: nn.Module, observe: Callable[[int, Tensor], None]) -> float:
        """The accuracy; `observe` sees each batch's number and outputs (batch, classes) on the way."""
        hits = 0
        for index, (inputs, labels) in enumerate(self.batches):
            scores = _scores(network, inputs)
            observe(index, scores)
            hits += int((scores.argmax(1) == labels).sum())
        return hits / self.images


def _parts(inputs: Inputs, labels: Tensor) -> list[tuple[Inputs, Tensor]]:
    parts = fast_batches(inputs)
    return list(zip(parts, torch.split(labels, [part.size for part in parts]), strict=True))


def _scores(network: nn.Module, inputs: Inputs) -> Tensor:
    output = inputs.call(network)
    if not isinstance(output, Tensor) or output.dim() != 2:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise DataError(
            f"accuracy needs outputs of shape (batch, classes), got {found}; "
            "pass your own metric as evaluate(model) -> float."
        )
    return output


def _labelled(batch: Any, device: torch.device) -> tuple[Inputs, Tensor]:
    if not isinstance(batch, list | tuple) or len(batch) != 2 or not isinstance(batch[1], Tensor):
        raise DataError(
            "validation batches must be (inputs, labels) pairs with labels as a tensor, "
            f"got {type(batch).__name__}; pass a labelled loader, or evaluate(model) -> float."
        )
    inputs, labels = Inputs.of(batch[0]).to(device).channels_last(), batch[1].to(device)
    if labels.dim() != 1 or len(labels) != inputs.size or labels.is_floating_point():
        raise DataError(
            f"labels must be integers of shape ({inputs.size},), got {labels.dtype} {tuple(labels.shape)}."
        )
    for tensor in inputs.tensors:
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DataError("validation images must be finite, got NaN or infinity; clean them first.")
    return inputs, labels
