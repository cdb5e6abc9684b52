"""CASM: small models of the remaining kernels, trained until their feature maps resemble the original's.

Source: Intraraprasit and Chitsobhuk, "Convolutional Approximation Small Model", Computation 11(9), 2023,
176. Certain is that after pruning a compact model of the remaining kernels is trained on feature maps of
the original. What a small model is, its loss, its optimiser and its start are a reading, see the
options; the start from closed-form weights is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from autoprune.errors import ConfigError
from autoprune.graph.groups import Kept, Layer
from autoprune.graph.plain import masks_as_given
from autoprune.reconstruction.base import Bench, Reconstruction, reconstructions
from autoprune.reconstruction.casm.small_models import whole, windows
from autoprune.reconstruction.replaying.fit import Fits, Fitter, Schedule
from autoprune.reconstruction.replaying.images import Images, LiveImages
from autoprune.reconstruction.replaying.passes import Passes, restorable
from autoprune.reconstruction.replaying.windows import Target, Window, parameters_of

Count = Annotated[int, Field(ge=1)]
_LOOKING = ("sequential", "joint")
"""Starts that look at images of their own, and at other views of them."""


@reconstructions.register("casm")
@dataclass(frozen=True, kw_only=True)
class Casm(Reconstruction):
    """Trains small models (producer, norm, consumer) on feature maps of the dense network, without labels.

    Their inputs are the pruned network's own activations; their targets the dense outputs of the consumer,
    after its norm, residual sum and (`target = "after"`) activation. `start` is the reconstruction to begin
    with, a sequential or joint one on the first `start_images` calibration images (all when None). `scope =
    "group"`: Adam takes `steps` steps of `batch` images for each small model, one after the other in order of
    execution, on cached activations. `scope = "network"`: all targets at once, gradients through the whole
    network, the dense network beside it; then images can be mirrored (`mirror`). On the first `images`
    calibration images, or all; `crops` adds so many random parts of each. Both hold for a sequential or joint
    start as well. `mixed_precision` runs the passes of the steps in bfloat16, which is faster where the
    device knows it. Of the same images, smaller batches in more steps fit closer (ResNet-20 at 35 % of the
    MACs, batches of 128 and 32: error of the logits 0.109 and 0.098). A small model whose error does not fall
    stays as it was.
    """

    citation = "Intraraprasit and Chitsobhuk, Computation 2023"

    start: Literal["sequential", "joint", "independent", "none"] = "sequential"
    start_images: Count | None = None
    scope: Literal["group", "network"] = "group"
    steps: Count = 250
    batch: Count = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    images: Count | None = None
    target: Literal["after", "before"] = "after"
    train: Literal["both", "consumer"] = "both"
    mirror: bool = False
    crops: Annotated[int, Field(ge=0)] = 0
    mixed_precision: bool = False
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.mirror and self.scope == "group":
            raise ConfigError(
                "option 'mirror' of reconstruction 'casm' needs scope = \"network\": small models learn "
                "from cached activations, which are not mirrored; set the scope, or leave mirror out."
            )

        if self.start_images is not None and self.start not in _LOOKING:
            raise ConfigError(
                "option 'start_images' of reconstruction 'casm' needs a start that looks at images of its "
                f'own, got start = "{self.start}"; set {" or ".join(_LOOKING)}, or leave it out.'
            )

    def _start(self) -> Reconstruction:
        views = {"mirror": self.mirror, "crops": self.crops} if self.start in _LOOKING else {}
        return reconstructions[self.start](**views)

    def quick(self) -> Reconstruction:
        return reconstructions[self.start]().quick()

    def restore(self, bench: Bench, network: nn.Module, kept: Kept) -> None:
        first = bench if self.start_images is None else bench.first(self.start_images)
        self._start().restore(first, network, kept)
        few = bench if self.images is None else bench.first(self.images)
        with masks_as_given():
            _Work(self, few.with_views(mirror=False, crops=self.crops), network, kept).run()


class _Work:
    """One candidate under CASM."""

    def __init__(self, options: Casm, bench: Bench, network: nn.Module, kept: Kept) -> None:
        self.options, self.bench, self.network = options, bench, network
        self.passes = Passes.of(bench, network)
        self.targets = [self._target(layer, kept) for layer in restorable(bench, self.passes.trace, kept)]
        self.batch = min(options.batch, self.passes.inputs.size)
        self.schedule = Schedule(options.steps, options.learning_rate, options.mixed_precision)
        self.generator = torch.Generator().manual_seed(options.seed)

    def run(self) -> None:
        if not self.targets:
            return
        if self.options.scope == "group":
            self._group_by_group()
        else:
            self._at_once()

    def _group_by_group(self) -> None:
        fits, passes = Fits(), self.passes
        small = windows(self.bench.graph, passes.trace, self.targets, self._trains_producer)
        for window, images in passes.walk(small, self.batch):
            with fits:
                self._fit(window, images)
            # Not beside those of the next window.
            del images
        fits.check()

    def _at_once(self) -> None:
        passes, layers = self.passes, [target.layer for target in self.targets]
        if self._trains_producer:
            layers = [layer for layer in self.bench.graph.layers if layer.name in passes.trace.layers]
        window = whole(self.targets, layers)
        images = LiveImages(passes.dense, passes.dense_trace, window, passes.inputs, self.options.mirror)
        self._fit(window, images)

    def _fit(self, window: Window, images: Images) -> None:
        fitter = Fitter(self.network, self.passes.trace, window, images, self.batch)
        fitter.fit(parameters_of(self.network, window.trained), self.schedule, self.generator)

    @property
    def _trains_producer(self) -> bool:
        return self.options.train == "both"

    def _target(self, layer: Layer, kept: Kept) -> Target:
        feature = self.passes.trace.features[layer.name]
        call = feature.after if self.options.target == "after" else feature.before
        return Target(layer, call, self.bench.rows(layer, kept))
