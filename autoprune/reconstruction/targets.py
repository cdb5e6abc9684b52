"""What the dense network gives at each layer: the targets of a sequential reconstruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from autoprune.calibration.columns import Grid, grid_step, output_columns, positions
from autoprune.calibration.flow import Branch, FlowTap
from autoprune.calibration.taps import LayerCall
from autoprune.data.inputs import Inputs
from autoprune.graph.groups import Layer


@dataclass
class DenseTargets:
    """Outputs per layer name and chunk, (out, columns) on the chunk's grid of positions.

    For a layer in `residual`, the stored output is the residual sum that the layer's output enters.
    """

    layers: tuple[Layer, ...]
    positions_per_image: int | None
    outputs: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    residual: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    _steps: dict[str, int] = field(default_factory=dict)

    @property
    def refittable(self) -> tuple[Layer, ...]:
        """Layers that run once a pass. One weight used twice has no single target."""
        return tuple(layer for layer in self.layers if self.calls[layer.name] == 1)

    def grid(self, call: LayerCall, output: Tensor, chunk: int) -> Grid:
        """Where chunk number `chunk` looks at this layer; the offset moves from chunk to chunk."""
        step = self._steps.setdefault(
            call.layer.name, grid_step(*positions(call, output), self.positions_per_image)
        )
        return Grid(step, chunk)

    def known_grid(self, layer: Layer, chunk: int) -> Grid:
        return Grid(self._steps[layer.name], chunk)


class _Recorder:
    def __init__(self, targets: DenseTargets, chunk: int) -> None:
        self.targets, self.chunk = targets, chunk

    def on_layer(self, call: LayerCall) -> Tensor:
        output = call.run()
        self.targets.calls[call.layer.name] += self.chunk == 0
        self._store(call, output)
        return output

    def on_sum(self, branch: Branch, other: Tensor, total: Tensor) -> None:
        self.targets.residual.add(branch.call.layer.name)
        self._store(branch.call, total)

    def _store(self, call: LayerCall, output: Tensor) -> None:
        columns = output_columns(call, output, self.targets.grid(call, output, self.chunk))
        # A copy: the network may go on working on this tensor in place.
        copied = columns.clone(memory_format=torch.contiguous_format)
        self.targets.outputs[call.layer.name, self.chunk] = copied


@torch.no_grad()
def record_targets(
    model: nn.Module, layers: Sequence[Layer], chunks: Sequence[Inputs], positions_per_image: int | None
) -> DenseTargets:
    """One pass of the dense network over the calibration chunks."""
    targets = DenseTargets(tuple(layers), positions_per_image)
    for index, inputs in enumerate(chunks):
        with FlowTap(model, layers, _Recorder(targets, index)):
            inputs.call(model)
    return targets
