"""Calibration images put to use: the chunks they pass through the network in, and their second moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from autoprune.calibration.interleaving import interleaves
from autoprune.calibration.moments import Moments
from autoprune.calibration.statistics import OnDemand, Statistics, calibrate
from autoprune.data.inputs import Inputs, concatenate, fast_batches
from autoprune.errors import listed
from autoprune.graph import ChannelGraph
from autoprune.graph.groups import Layer
from autoprune.progress import Progress
from autoprune.reconstruction import Bench
from autoprune.reconstruction.base import POSITIONS_PER_IMAGE
from autoprune.searching.options import Task
from autoprune.searching.packing import moment_bytes
from autoprune.searching.sharing import MOST_BYTES, Sharing, shared_moments

MOST_CHUNKS = 32
"""Parts of the calibration images that go through the network side by side, each in a thread of its own."""

FIT_SAMPLES = 2**16
"""Output positions of all images together that a layer is fitted on, where they have as many: fewer images
than 2,048 are looked at more closely, which costs no more than 2,048 would."""

TARGET_BYTES = 2 * 2**30
"""What the dense network's float32 outputs there may take in all for that."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """One pass of a task's calibration images through its network, shared by the workers of its study."""

    task: Task
    graph: ChannelGraph
    damping: float
    sharing: Sharing
    progress: Progress

    def bench(self, *, looks: bool, in_trials: bool) -> Bench:
        """What reconstructions work on; calibrates when second moments are first read.

        `looks`: something reads images; without it there are no second moments. `in_trials`: trials read
        them, so that it is worth sharing them.
        """
        moments = OnDemand(self._shared if in_trials else self._made) if looks else {}
        statistics = Statistics(moments, self.damping, self.images)
        positions = positions_per_image(self.graph.layers, self.images)
        return Bench(self.task.model, self.graph, statistics, self.task.chunks, self.damping, positions)

    @property
    def images(self) -> int:
        return sum(chunk.size for chunk in self.task.chunks)

    def _shared(self) -> Mapping[str, Moments]:
        """They may be large: those that take longer to read than to make are not shared."""
        layers = self._readers
        if moment_bytes(layers) > MOST_BYTES:
            return self._made()
        return self.sharing.get(shared_moments(self._made, layers, self.task.device, images=self.images))

    def _made(self) -> Mapping[str, Moments]:
        batches = [part for chunk in self.task.chunks for part in fast_batches(chunk)]
        with self.progress.stage("calibrate", self.images) as stage:
            moments = calibrate(
                self.task.model, self._readers, batches, damping=self.damping, progress=stage.advance
            ).moments
        unseen = [layer.name for layer in self._readers if layer.name not in moments]
        if unseen:
            # Such as one that is called with single samples, or by a name under torch.ops.
            self.progress.message(
                f"these layers are called in a way that is not watched and stay as sliced: {listed(unseen)}"
            )
        return moments

    @property
    def _readers(self) -> list[Layer]:
        """Layers that read pruned channels, in order of execution."""
        names = {layer.name for group in self.graph.groups for layer in self.graph.consumers(group)}
        return [layer for layer in self.graph.layers if layer.name in names]


def positions_per_image(layers: Sequence[Layer], images: int) -> int:
    """Where a sequential reconstruction looks at each of so many images: the fewer they are, the closer."""
    channels = sum(layer.shape[0] for layer in layers)
    samples = min(FIT_SAMPLES, TARGET_BYTES // (4 * max(channels, 1)))
    return max(POSITIONS_PER_IMAGE, samples // images)


def rechunked(chunks: Sequence[Inputs], model: nn.Module) -> list[Inputs]:
    """The same images in chunks of nearly equal size, each such that a forward pass of it is fast.

    One chunk where passes of several would get into each other's way (see `interleaves`).
    """
    whole = concatenate(chunks)
    count = min(len(fast_batches(whole)), MOST_CHUNKS)
    if count > 1 and not interleaves(model, whole.take(1), whole.slice(whole.size - 1, whole.size)):
        count = 1
    edges = [round(whole.size * i / count) for i in range(count + 1)]
    return [whole.slice(start, stop) for start, stop in pairwise(edges)]
