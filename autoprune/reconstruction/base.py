"""What a reconstruction works with, and what it does to a sliced network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from autoprune.calibration.statistics import Statistics
from autoprune.components import Component
from autoprune.data.crops import random_crops
from autoprune.data.inputs import Inputs, leading
from autoprune.graph.groups import ChannelGraph, Kept, Layer
from autoprune.graph.slicing import Sites, member_sites, positions_kept
from autoprune.graph.state import tensor_of
from autoprune.reconstruction.lockstep import Lockstep
from autoprune.reconstruction.targets import DenseTargets, record_targets
from autoprune.registry import Registry

_SEED = 0
"""Draws the random parts of images: the same for every candidate."""
POSITIONS_PER_IMAGE = 32
"""Output positions per image that a sequential reconstruction fits at least; all, where there are fewer."""


@dataclass(frozen=True)
class Bench:
    """A calibrated network: everything that restoring a candidate may need. Nothing here changes.

    `chunks` are the calibration images on the model's device; `damping` is relative to the mean
    diagonal of each second moment.
    """

    model: nn.Module
    graph: ChannelGraph
    statistics: Statistics
    chunks: Sequence[Inputs]
    damping: float
    positions_per_image: int | None = POSITIONS_PER_IMAGE
    _sites: Sites = field(init=False, repr=False)
    _others: dict[tuple[str, int], Bench] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sites", member_sites(self.graph))

    @property
    def device(self) -> torch.device:
        """Where the images are, and the network."""
        return self.chunks[0].tensors[0].device

    @cached_property
    def targets(self) -> DenseTargets:
        """Dense outputs of every layer that a sequential reconstruction refits; one pass, then kept."""
        layers = [layer for layer in self.graph.layers if self.refits(layer)]
        return record_targets(self.model, layers, self.chunks, self.positions_per_image)

    @cached_property
    def lockstep(self) -> Lockstep:
        """Runs the chunks side by side; kept, so that its threads and their memory are used again."""
        return Lockstep(len(self.chunks))

    def first(self, images: int) -> Bench:
        """The same bench with the first `images` calibration images only; made once."""
        if images >= sum(chunk.size for chunk in self.chunks):
            return self
        return self._other("images", images, lambda: replace(self, chunks=leading(self.chunks, images)))

    def with_positions(self, positions: int) -> Bench:
        """The same bench that fits a layer on at least so many positions of an image; made once."""
        if positions == self.positions_per_image:
            return self
        return self._other("positions", positions, lambda: replace(self, positions_per_image=positions))

    def with_views(self, *, mirror: bool, crops: int) -> Bench:
        """The same bench with every calibration image mirrored left to right as well, if asked, and so many
        random parts of each; made once.

        Itself where the inputs are no images.
        """
        if not self.chunks[0].has_images or not (mirror or crops):
            return self
        kind = "mirrors and crops" if mirror else "crops"
        return self._other(kind, crops, lambda: replace(self, chunks=self._views(mirror, crops)))

    def _views(self, mirror: bool, crops: int) -> list[Inputs]:
        mirrors = [chunk.mirrored() for chunk in self.chunks] if mirror else []
        generator = torch.Generator().manual_seed(_SEED)
        parts = [random_crops(chunk, generator) for _ in range(crops) for chunk in self.chunks]
        return [*self.chunks, *mirrors, *parts]

    def _other(self, kind: str, number: int, make: Callable[[], Bench]) -> Bench:
        if (kind, number) not in self._others:
            self._others[kind, number] = make()
        return self._others[kind, number]

    def rows(self, layer: Layer, kept: Kept) -> Tensor:
        """Kept output channels of the layer's weight, sorted."""
        return self._positions(layer, layer.outputs_dim, kept)

    def columns(self, layer: Layer, kept: Kept) -> Tensor:
        """Kept columns of the layer's weight as a matrix (out per group, n), sorted."""
        taps = torch.Size(layer.shape[2:]).numel()
        channels = self._positions(layer, layer.inputs_dim, kept)
        return (channels.unsqueeze(-1) * taps + torch.arange(taps)).flatten()

    def refits(self, layer: Layer) -> bool:
        """Whether it may get new weights: what is a buffer is fixed, and perhaps not even stored, and what
        others read as well would change for them."""
        names = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
        return layer.alone and all(isinstance(tensor_of(self.model, name), nn.Parameter) for name in names)

    def loses_columns(self, layer: Layer, kept: Kept) -> bool:
        kept_columns = self._positions(layer, layer.inputs_dim, kept)
        return len(kept_columns) < layer.shape[layer.inputs_dim]

    def _positions(self, layer: Layer, dim: int, kept: Kept) -> Tensor:
        return positions_kept(layer.shape[dim], self._sites.get((layer.weight, dim), []), kept)


class Reconstruction(Component, ABC):
    """Gives a sliced network weights that restore what the dense one computed.

    Options are the fields of its dataclass.
    """

    needs_images: ClassVar[bool] = True
    """Whether it reads second moments or images; a search in which nothing does skips calibration."""

    def quick(self) -> Reconstruction:
        """A cheaper one that ranks candidates much the same, for use on few images."""
        return self

    @abstractmethod
    def restore(self, bench: Bench, network: nn.Module, kept: Kept) -> None:
        """Set new weights in `network`, the candidate as sliced; its tensors may be replaced freely."""


reconstructions: Registry[type[Reconstruction]] = Registry("reconstruction")


@reconstructions.register("none")
class NoReconstruction(Reconstruction):
    """The weights stay as sliced: the control."""

    needs_images = False

    def restore(self, bench: Bench, network: nn.Module, kept: Kept) -> None:
        return None
