"""What the dense network gives at each layer: the targets of a sequential reconstruction."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from autoprune.calibration.call import LayerCall
from autoprune.calibration.columns import Grid, output_columns, steps_of
from autoprune.calibration.flow import Affine, Branch, Clamp, FlowHandler, FlowTap
from autoprune.data.inputs import Inputs
from autoprune.graph.groups import Layer
from autoprune.reconstruction.joining import Joining, joining

SAMPLES = 12
"""A layer is fitted on so many positions per column it reads, where the images have them."""


@dataclass(frozen=True)
class Cut:
    """What alone reads a layer's output: a clamp, behind the batch norm where there is one."""

    clamp: Clamp
    affine: Affine | None


@dataclass
class DenseTargets:
    """Outputs per layer name and chunk, (out, columns) on the chunk's grid of positions.

    Chunks that join behind a layer have none there. For a layer in `residual`, the stored output is the
    residual sum that the layer's output enters. `cuts` are the layers whose output (or sum) is read by a
    clamp and nothing else.
    """

    layers: tuple[Layer, ...]
    positions_per_image: int | None
    joining: Joining
    outputs: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    residual: set[str] = field(default_factory=set)
    cuts: dict[str, Cut] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    _steps: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def refittable(self) -> tuple[Layer, ...]:
        """Layers that run once a pass. One weight used twice has no single target."""
        return tuple(layer for layer in self.layers if self.calls[layer.name] == 1)

    def grid(self, call: LayerCall, output: Tensor, chunk: int) -> Grid:
        """Where chunk number `chunk` looks at this layer; the offset moves from chunk to chunk."""
        if call.layer.name not in self._steps:
            self._steps[call.layer.name] = steps_of(call, output, self._limit(call))
        return self.known_grid(call.layer, chunk)

    def _limit(self, call: LayerCall) -> int | None:
        """Positions per image: more where a layer reads many columns, lest the fit learns them by heart."""
        if self.positions_per_image is None:
            return None
        images = self.joining.images(call.layer.name)
        return max(self.positions_per_image, math.ceil(SAMPLES * call.weight[0].numel() / images))

    def known_grid(self, layer: Layer, chunk: int) -> Grid:
        return Grid(self._steps[layer.name], chunk)


class _Recorder(FlowHandler):
    def __init__(self, targets: DenseTargets, chunk: int) -> None:
        self.targets, self.chunk = targets, chunk
        # Layers that something other than a clamp reads, in their sum or before it.
        self._used: set[str] = set()
        self._versions: dict[str, int] = {}

    def on_layer(self, call: LayerCall) -> Tensor:
        output = call.run()
        self.targets.calls[call.layer.name] += self.chunk == 0
        self._versions[call.layer.name] = _version(call.input)
        self._store(call, output)
        return output

    def on_sum(self, branch: Branch, other: Tensor, total: Callable[[], Tensor]) -> Tensor | None:
        if self._versions[branch.call.layer.name] != _version(branch.call.input):
            # What it read has been changed in place since: at the sum there is nothing left to fit it on.
            self.on_use(branch)
            return None
        summed = total()
        self.targets.residual.add(branch.call.layer.name)
        self._store(branch.call, summed)
        return summed

    def on_clamp(self, branch: Branch, clamp: Clamp) -> None:
        if branch.call.layer.name not in self._used:
            self.targets.cuts[branch.call.layer.name] = Cut(clamp, branch.affine)

    def on_use(self, branch: Branch) -> None:
        self._used.add(branch.call.layer.name)
        self.targets.cuts.pop(branch.call.layer.name, None)

    def _store(self, call: LayerCall, output: Tensor) -> None:
        if not self.targets.joining.takes(self.chunk, call.layer.name):
            return
        columns = output_columns(call, output, self.targets.grid(call, output, self.chunk))
        # A copy: the network may go on working on this tensor in place.
        copied = columns.clone(memory_format=torch.contiguous_format)
        self.targets.outputs[call.layer.name, self.chunk] = copied


def _version(tensor: Tensor) -> int:
    """Grows with every change in place."""
    return 0 if tensor.is_inference() else tensor._version


@torch.no_grad()
def record_targets(
    model: nn.Module, layers: Sequence[Layer], chunks: Sequence[Inputs], positions_per_image: int | None
) -> DenseTargets:
    """One pass of the dense network over the calibration chunks."""
    targets = DenseTargets(tuple(layers), positions_per_image, joining(model, layers, chunks))
    for index, inputs in enumerate(chunks):
        with FlowTap(model, layers, _Recorder(targets, index)) as tap:
            tap.returned(inputs.call(model))
    return targets
