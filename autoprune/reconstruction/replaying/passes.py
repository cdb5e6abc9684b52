"""The dense network's pass and a candidate's over the same images, call for call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from autoprune.data.inputs import Inputs, concatenate
from autoprune.graph.groups import Kept, Layer
from autoprune.layout import training_layout
from autoprune.reconstruction.base import Bench
from autoprune.reconstruction.independent import affected
from autoprune.reconstruction.replaying.cache import Cache
from autoprune.reconstruction.replaying.images import CachedImages, dense_targets
from autoprune.reconstruction.replaying.recording import record_trace
from autoprune.reconstruction.replaying.replay import advance
from autoprune.reconstruction.replaying.trace import Trace, check_alike
from autoprune.reconstruction.replaying.windows import Window


@dataclass(frozen=True)
class Passes:
    """Both networks, what their passes do, and the images, in the layout in which they run."""

    dense: nn.Module
    candidate: nn.Module
    dense_trace: Trace
    trace: Trace
    inputs: Inputs
    layout: torch.memory_format

    @classmethod
    def of(cls, bench: Bench, candidate: nn.Module) -> Passes:
        """Over the bench's images; DiffersEachTime where a number does not mean the same call in both."""
        images = concatenate(bench.chunks)
        layout = training_layout(candidate, bench.model, images)
        inputs = images.laid_out(layout)
        dense_trace, trace = (
            record_trace(network, bench.graph.layers, inputs) for network in (bench.model, candidate)
        )
        check_alike(dense_trace, trace)
        return cls(bench.model, candidate, dense_trace, trace, inputs, layout)

    def walk(self, windows: Iterable[Window], batch: int) -> Iterator[tuple[Window, CachedImages]]:
        """Each window with what both networks gave above it. The cut only moves forward.

        The candidate may be changed within a window before the next one is asked for.
        """
        dense, mine = Cache(layout=self.layout), Cache(layout=self.layout)
        for window in windows:
            dense = advance(self.dense, self.dense_trace, dense, self.inputs, window.start, batch)
            mine = advance(self.candidate, self.trace, mine, self.inputs, window.start, batch)
            wanted = dense_targets(self.dense, self.dense_trace, dense, self.inputs, window, batch)
            yield window, CachedImages(self.inputs, mine, wanted)


def restorable(bench: Bench, trace: Trace, kept: Kept) -> Sequence[Layer]:
    """Layers from the first that loses columns on, without those that run more than once."""
    names = {layer.name for layer in affected(bench, kept)}
    layers = bench.graph.layers
    first = next((i for i, layer in enumerate(layers) if layer.name in names), len(layers))
    found = [layer for layer in layers[first:] if layer.name in trace.features]
    return [layer for layer in found if layer.name not in trace.repeated]
