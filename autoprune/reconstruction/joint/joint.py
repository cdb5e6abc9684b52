"""Joint least squares: the layers of a block fitted together to the block's dense output.

A sequential fit asks every layer for its own dense outputs. But what the kept channels inside a residual
block were in the dense network matters to nobody: what counts is what the block adds up to. So the layers
of a block are fitted at once, on the pruned network's own inputs, to its dense output behind sum and
activation. That is least squares with the non-linearity inside, solved by L-BFGS (Liu and Nocedal, 1989) on
all images in every step, in coordinates that make its curvature about one (see `coordinates`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from autoprune.data.inputs import Inputs, leading
from autoprune.data.outputs import squared_deviation, squared_distance
from autoprune.graph.groups import Kept, Layer
from autoprune.graph.plain import masks_as_given
from autoprune.graph.state import tensor_of
from autoprune.linear_algebra import for_images
from autoprune.memory import Limit
from autoprune.reconstruction.base import Bench, Reconstruction, reconstructions
from autoprune.reconstruction.joint.blocks import blocks
from autoprune.reconstruction.joint.coordinates import Coordinates, Curvature, carried_back
from autoprune.reconstruction.replaying.cache import in_order
from autoprune.reconstruction.replaying.fit import (
    JUDGED_IMAGES,
    Fits,
    Fitter,
    backward,
    own_storage,
    put_back,
    trainable,
)
from autoprune.reconstruction.replaying.images import Images
from autoprune.reconstruction.replaying.passes import Passes, restorable
from autoprune.reconstruction.replaying.windows import Target, Window
from autoprune.reconstruction.sequential import Sequential

BATCH = 256
"""Images that run at once, at least; all run in every step."""
_MORE = Limit(cpu=0, gpu=128 * 2**20, parts=600)
"""Bytes of inputs that may run at once where more images fill a device: small batches wait for launches."""
_HISTORY = 20
_SLACK = 0.01
"""Outputs may end farther off than before up to this share of their variance. Where the last layer reads more
columns than there are images, a sequential fit knows these by heart, and what is nearer only others would
show."""

_log = logging.getLogger(__name__)


@reconstructions.register("joint")
@dataclass(frozen=True, kw_only=True)
class Joint(Reconstruction):
    """Least squares for the layers of a block at once, block by block in order of execution, without labels.

    Starts from `sequential`, and takes at most `steps` steps of L-BFGS a block, in at most a quarter more
    passes over all calibration images and, with `mirror` and `crops`, those mirrored left to right and so
    many random parts of each. Only channels that nobody outside a block reads move freely. A block whose
    error does not fall stays as it was, and so do all where the outputs move away from the dense ones, or no
    gradient reaches them. Eight to twenty times a sequential fit's time (ResNets, CPU, studies/LOG.md,
    2026-11-27): for candidates that are built, rather than for those of a search.
    """

    citation = "ours; coordinates after Martens and Grosse, ICML 2015; solver: Liu and Nocedal, 1989"

    steps: Annotated[int, Field(ge=1)] = 12
    mirror: bool = False
    crops: Annotated[int, Field(ge=0)] = 0

    def quick(self) -> Reconstruction:
        return Sequential().quick()

    def restore(self, bench: Bench, network: nn.Module, kept: Kept) -> None:
        Sequential(mirror=self.mirror, crops=self.crops).restore(bench, network, kept)
        with masks_as_given():
            _Work(bench.with_views(mirror=self.mirror, crops=self.crops), network, kept, self.steps).run()


class _Work:
    """One candidate, block by block."""

    def __init__(self, bench: Bench, network: nn.Module, kept: Kept, steps: int) -> None:
        self.bench, self.network, self.kept, self.steps = bench, network, kept, steps
        self.passes = Passes.of(bench, network)

    def run(self) -> None:
        trace = self.passes.trace
        wanted = [layer for layer in restorable(self.bench, trace, self.kept) if self.bench.refits(layer)]
        targets = [
            Target(layer, trace.features[layer.name].after, self.bench.rows(layer, self.kept))
            for layer in wanted
        ]
        if not targets:
            return
        parameters = list(self.network.parameters())
        before, saved = self._error(), [parameter.detach().clone() for parameter in parameters]
        self._block_by_block(targets, images_at_once(self.passes.inputs))
        # Blocks that are nearer to the dense ones are no promise for what comes out in the end.
        if not self._error() <= max(before, _SLACK * self._variance()):
            put_back(parameters, saved)
            _log.warning("joint fits moved the outputs away from the dense ones: the sequential fit stays")

    def _error(self) -> float:
        """How far the outputs on the first images are from the dense network's."""
        return squared_distance(self.network, self.bench.model, self._judged())

    def _variance(self) -> float:
        """That of the dense network's outputs on these images."""
        return squared_deviation(self.bench.model, self._judged())

    def _judged(self) -> list[Inputs]:
        return leading(self.bench.chunks, JUDGED_IMAGES)

    def _block_by_block(self, targets: Sequence[Target], batch: int) -> None:
        fits, passes = Fits(), self.passes
        for window, images in passes.walk(blocks(self.bench.graph, passes.trace, targets), batch):
            with fits:
                self._fit(window, images, batch)
            # Not beside those of the next window.
            del images
        fits.check()

    def _fit(self, window: Window, images: Images, batch: int) -> None:
        layers = [layer for layer in window.trained if self.bench.refits(layer)]
        found = [self._parameters(layer) for layer in layers]
        parameters = list(dict.fromkeys(p for pair in found for p in pair if p is not None))
        if not parameters:
            return
        own_storage(parameters)
        with torch.enable_grad(), trainable(self.network, parameters):
            fit = _BlockFit(Fitter(self.network, self.passes.trace, window, images, batch), parameters, batch)
            fit.solve(self._coordinates(layers, found, fit.variance), self.steps)

    def _parameters(self, layer: Layer) -> tuple[nn.Parameter, nn.Parameter | None]:
        """The layer's weight, and what adds a constant to its output, behind the norm if there is one."""
        weight = cast("nn.Parameter", tensor_of(self.network, layer.weight))
        name = f"{layer.norm}.bias" if layer.norm is not None else layer.bias
        known = dict(self.network.named_parameters())
        return weight, None if name is None else known.get(name)

    def _coordinates(
        self,
        layers: Sequence[Layer],
        found: Sequence[tuple[nn.Parameter, nn.Parameter | None]],
        variance: float,
    ) -> list[Coordinates]:
        """From the last layer to the first, as the curvature is carried back."""
        coordinates: list[Coordinates] = []
        behind: dict[str, Tensor] = {}
        channels = {layer.name: len(weight) for layer, (weight, _) in zip(layers, found, strict=True)}
        for layer, (weight, constant) in reversed(list(zip(layers, found, strict=True))):
            scale = self._scale(layer, weight)
            after = behind.get(layer.name)
            if after is None:
                after = torch.eye(len(weight), dtype=torch.float64, device=weight.device) / variance
            curvature = self._curvature(layer, weight, centred=constant is not None)
            coordinates.append(Coordinates(weight, constant, scale, curvature, after))
            scaled = scale.double().unsqueeze(-1) * after * scale.double()
            for producer in self._read_by(layer):
                carried = carried_back(scaled, weight, channels.get(producer, 0))
                if carried is not None:
                    behind[producer] = carried
        return coordinates

    def _read_by(self, layer: Layer) -> list[str]:
        """Layers whose channels this one reads."""
        graph = self.bench.graph
        return [made.name for group in graph.read_by(layer) for made in graph.producers(group)]

    def _scale(self, layer: Layer, weight: Tensor) -> Tensor:
        if layer.norm is None:
            return torch.ones(len(weight), dtype=weight.dtype, device=weight.device)
        norm = self.network.get_submodule(layer.norm)
        deviation = (cast("Tensor", norm.running_var) + cast("float", norm.eps)).sqrt()
        gain = cast("Tensor | None", norm.weight)
        return 1 / deviation if gain is None else gain.detach() / deviation

    def _curvature(self, layer: Layer, weight: Tensor, *, centred: bool) -> Curvature:
        statistics, columns = self.bench.statistics, weight[0].numel()
        damping = for_images(self.bench.damping, columns, statistics.images)
        moments = statistics.moments.get(layer.name)
        chosen = self.bench.columns(layer, self.kept)
        if moments is None or len(moments.second) != 1 or len(chosen) != columns:
            return Curvature.unknown(columns, damping, weight)
        return Curvature.of(moments, chosen, damping, centred)


def images_at_once(inputs: Inputs) -> int:
    """How many images make a batch of a joint fit."""
    return inputs.split(_MORE.bytes(inputs.tensors[0].device), least=BATCH)[0].size


class _BlockFit:
    """L-BFGS on one block; of all that it tries, the parameters with the lowest error stay."""

    def __init__(self, fitter: Fitter, parameters: list[nn.Parameter], batch: int) -> None:
        self.fitter, self.parameters, self.batch = fitter, parameters, batch
        (target,) = fitter.window.targets
        self.variance = fitter.variances[target.call]
        # Half the squared error of a position, summed over channels, in units of the outputs' variance: the
        # solver has thresholds of its own, which must not mean something else for small activations.
        self.unit = 0.5 * len(target.rows)
        self.parts = list(in_order(fitter.images.size, batch))

    def solve(self, coordinates: Sequence[Coordinates], steps: int) -> None:
        best, values = float("inf"), [parameter.detach().clone() for parameter in self.parameters]

        def error() -> Tensor:
            # The first one is of the start, so nothing has to be evaluated before or behind the solver.
            nonlocal best, values
            found = self._error(coordinates)
            # Not "best <= found": a diverged fit is NaN.
            if float(found) < best:
                best, values = float(found), [parameter.detach().clone() for parameter in self.parameters]
            return found

        leaves = [leaf for one in coordinates for leaf in one.leaves]
        optimizer = torch.optim.LBFGS(
            leaves,
            max_iter=steps,
            history_size=_HISTORY,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(error)  # type: ignore[no-untyped-call]
        put_back(self.parameters, values)

    def _error(self, coordinates: Sequence[Coordinates]) -> Tensor:
        """The loss at the leaves' values, ridge included; gradients are left in the leaves."""
        for one in coordinates:
            one.apply()
        for parameter in self.parameters:
            parameter.grad = None
        total = 0.0
        for part in self.parts:
            loss = self.fitter.loss(self.fitter.images.batch(part)) * (self.unit * len(part))
            loss = loss / self.fitter.images.size
            backward(loss)
            total += float(loss.detach())
        for one in coordinates:
            one.pull()
        return torch.tensor(total + sum(one.penalty() for one in coordinates))
