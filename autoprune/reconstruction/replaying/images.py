"""What a small model learns from: inputs, what is known above it, and what the dense network gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.reconstruction.replaying.cache import Cache, in_order, spanned
from autoprune.reconstruction.replaying.replay import Seen, replay
from autoprune.reconstruction.replaying.trace import Trace
from autoprune.reconstruction.replaying.windows import Target, Window


@dataclass(frozen=True)
class Batch:
    """Inputs, tensors known at the window's start by key, and wanted outputs by call number."""

    inputs: Inputs
    known: dict[int, Tensor]
    wanted: dict[int, Tensor]


class Images(Protocol):
    """Batches of a fixed set of images."""

    size: int

    def batch(self, index: Tensor) -> Batch:
        """The chosen images (batch,), as they are."""

    def varied(self, index: Tensor, generator: torch.Generator) -> Batch:
        """The chosen images for training, perhaps changed at random."""


class CachedImages:
    """Activations above a window and the dense targets, kept for all images."""

    def __init__(self, inputs: Inputs, cache: Cache, wanted: Cache) -> None:
        self.inputs, self.cache, self.wanted = inputs, cache, wanted
        self.size = inputs.size

    def batch(self, index: Tensor) -> Batch:
        return Batch(self.inputs.select(index), self.cache.rows(index), self.wanted.rows(index))

    def varied(self, index: Tensor, generator: torch.Generator) -> Batch:
        return self.batch(index)


@dataclass
class LiveImages:
    """The dense network runs on every batch: nothing is kept, and images can be mirrored at random."""

    dense: nn.Module
    trace: Trace
    window: Window
    inputs: Inputs
    mirror: bool
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.inputs.size

    def batch(self, index: Tensor) -> Batch:
        return self._batch(self.inputs.select(index))

    def varied(self, index: Tensor, generator: torch.Generator) -> Batch:
        inputs = self.inputs.select(index)
        return self._batch(flipped(inputs, generator) if self.mirror else inputs)

    def _batch(self, inputs: Inputs) -> Batch:
        outputs = targets_of(self.dense, self.trace, self.window, inputs, {})
        return Batch(inputs, {}, outputs)


def flipped(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """Each image mirrored left to right with probability one half."""
    return inputs.where(torch.rand(inputs.size, generator=generator) < 0.5, inputs.mirrored())


def dense_targets(
    dense: nn.Module, trace: Trace, cache: Cache, inputs: Inputs, window: Window, batch: int
) -> Cache:
    """The dense network's outputs at the window's targets for all images, by call number."""
    found = Cache(layout=cache.layout)
    for index in in_order(inputs.size, batch):
        part = targets_of(dense, trace, window, inputs.select(index), cache.rows(index))
        for call, value in part.items():
            key = trace.calls[call].writes[0].key
            found.put(trace, key, call, value, spanned(index), inputs.size)
    return found


@torch.no_grad()
def targets_of(
    dense: nn.Module, trace: Trace, window: Window, inputs: Inputs, known: dict[int, Tensor]
) -> dict[int, Tensor]:
    """The dense network's outputs at the window's targets on the kept channels, by call number."""
    found: dict[int, Tensor] = {}
    watch = {target.call: _keep(found, target) for target in window.targets}
    replay(dense, trace, window, inputs, known, watch)
    return found


def _keep(found: dict[int, Tensor], target: Target) -> Seen:
    def keep(call: int, output: Tensor) -> None:
        # index_select copies; the pass may go on working on the output in place.
        found[call] = output.index_select(target.channel_dim, target.rows.to(output.device))

    return keep
