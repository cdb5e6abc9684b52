"""Sequential reconstruction: every layer is refitted on what the pruned network really gives it.

In order of execution, each layer gets the weight that maps its inputs `z` in the pruned network to the
dense network's outputs `y`: `W = E[y z^T] E[z z^T]^-1`. A layer that ends in a residual sum aims at
the dense sum minus the pruned shortcut, so it also repairs what the layers above left over. Where a clamp
such as ReLU alone reads the result, only what passes it has to fit (see `rectified`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from autoprune.calibration.call import LayerCall
from autoprune.calibration.columns import Grid, output_columns
from autoprune.calibration.flow import Affine, Branch, FlowHandler, FlowTap
from autoprune.data.inputs import Inputs
from autoprune.errors import ConfigError
from autoprune.graph.groups import Kept, Layer
from autoprune.reconstruction.base import Bench, Reconstruction, reconstructions
from autoprune.reconstruction.independent import restore_independently
from autoprune.reconstruction.layer_fit import LayerFit
from autoprune.reconstruction.lockstep import Lockstep
from autoprune.reconstruction.targets import DenseTargets
from autoprune.reconstruction.weights import add_constant, set_weight, weight_of
from autoprune.tensors import without_autocast

ROUNDS = 2
"""Fits behind a clamp, by default."""
NEAR = 4
"""Layers behind one that loses columns in which what it left over is worth repairing for a quick judgement:
a candidate with one pruned group then costs the fits of a few layers, however deep its network is."""


@reconstructions.register("sequential")
@dataclass(frozen=True, kw_only=True)
class Sequential(Reconstruction):
    """Least squares in order of execution on the pruned network's own inputs, residual-aware.

    All layers from the first that loses columns are refitted, those that only read a disturbed input too;
    with `reach`, only so many behind each that loses some. One pass of the candidate over the calibration
    images. `target = "after"`: layers that feed a clamp such as ReLU, and nothing else, match what passes it,
    in `rounds` rounds; "before": they match all. A layer is fitted on at least `positions` output positions
    of each image (32 where none are given, more of fewer than 2,048 images), or all there are; with `mirror`,
    on every image mirrored left to right as well, and with `crops` on so many random parts of each, resized,
    for networks to which these are images of the same thing. More fit better and take longer.
    """

    citation = (
        "He et al., ICCV 2017; Luo et al., ICCV 2017 (ThiNet), residual sums as targets; "
        "behind the clamp: Zhang et al., TPAMI 2016, by majorisation"
    )

    target: Literal["after", "before"] = "after"
    rounds: Annotated[int, Field(ge=1)] = ROUNDS
    reach: Annotated[int, Field(ge=0)] | None = None
    positions: Annotated[int, Field(ge=1)] | None = None
    mirror: bool = False
    crops: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.target == "before" and self.rounds not in (ROUNDS, 1):
            raise ConfigError(
                "option 'rounds' of reconstruction 'sequential' counts fits behind the clamp, got "
                f'{self.rounds} with target = "before", which fits in front of it; leave one of them out.'
            )

    def quick(self) -> Sequential:
        reach = NEAR if self.reach is None else min(NEAR, self.reach)
        return replace(self, rounds=1, reach=reach, positions=None, mirror=False, crops=0)

    def restore(self, bench: Bench, network: nn.Module, kept: Kept) -> None:
        bench = bench if self.positions is None else bench.with_positions(self.positions)
        bench = bench.with_views(mirror=self.mirror, crops=self.crops)
        layers = disturbed(bench, kept, self.reach)
        # What is refitted on the pruned network's own inputs starts from the weights as sliced.
        restore_independently(bench, network, kept, without={layer.name for layer in layers})
        if layers:
            device = bench.device
            rows_of = {layer.name: bench.rows(layer, kept).to(device) for layer in layers}
            rounds = self.rounds if self.target == "after" else 0
            SequentialPass(network, layers, bench.targets, rows_of, bench.damping, rounds).run(
                bench.chunks, bench.lockstep
            )


def disturbed(bench: Bench, kept: Kept, reach: int | None = None) -> list[Layer]:
    """Layers whose inputs change, in order: all from the first that loses columns, or `reach` behind each.

    One that loses columns itself is among them where it can be refitted; those behind it are in any case.
    """
    refittable = {layer.name for layer in bench.targets.refittable}
    found, left = [], -1.0
    for layer in bench.graph.layers:
        if bench.loses_columns(layer, kept):
            left = math.inf if reach is None else reach + (layer.name in refittable)
        if layer.name in refittable and left > 0:
            found.append(layer)
            left -= 1
    return found


class SequentialPass:
    """Refits `layers` of `network` in place, all chunks of calibration images in lockstep.

    `rounds` of fitting behind the clamp follow the plain fit; 0 for none.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[Layer],
        targets: DenseTargets,
        rows: Mapping[str, Tensor],
        damping: float,
        rounds: int,
    ) -> None:
        self.network, self.layers, self.targets = network, layers, targets
        self.rows, self.damping, self.rounds = rows, damping, rounds
        self._fit: LayerFit | None = None

    def run(self, chunks: Sequence[Inputs], lockstep: Lockstep) -> None:
        joining = self.targets.joining
        last = max(joining.order[layer.name] for layer in self.layers)

        def chunk(index: int) -> None:
            if joining.joins[index] > last:
                return
            handler = _Chunk(self, lockstep, index)
            with torch.no_grad(), FlowTap(self.network, self.layers, handler):
                chunks[index].call(self.network)

        lockstep.run(chunk)

    def fit(self, call: LayerCall, affine: Affine | None) -> LayerFit:
        """The fit of the layer that all chunks are at."""
        if self._fit is None:
            cut = self.targets.cuts.get(call.layer.name) if self.rounds else None
            if affine is None and cut is not None and cut.affine is not None:
                rows = self.rows[call.layer.name].to(cut.affine.scale.device)
                affine = Affine(cut.affine.scale[rows], cut.affine.shift[rows])
            self._fit = LayerFit(call, affine, None if cut is None else cut.clamp)
        return self._fit

    @without_autocast
    def install(self) -> None:
        """Solve the layer that all chunks have contributed to, and give the network its weights."""
        fit, self._fit = self._fit, None
        assert fit is not None, "a chunk has contributed before"
        images = self.targets.joining.images(fit.call.layer.name)
        solution = fit.solve(self.damping, images, self.rounds)
        call, shift = fit.call, solution.shift
        set_weight(self.network, call.layer, solution.weight)
        if shift is not None:
            constant = shift.flatten() if call.bias is None else shift.flatten() - call.bias.double()
            add_constant(self.network, call.layer, constant)

    def output(self, call: LayerCall) -> Tensor:
        """What the call gives with the weights that the network has now."""
        bias = self.network.get_parameter(call.layer.bias) if call.layer.bias else None
        return call.run_with(weight_of(self.network, call.layer), bias)


class _Chunk(FlowHandler):
    """Watches one chunk's forward pass and meets the others at every layer."""

    def __init__(self, owner: SequentialPass, lockstep: Lockstep, index: int) -> None:
        self.owner, self.lockstep, self.index = owner, lockstep, index
        # Layers that have run, but whose targets are known only when their residual sums come.
        self.waiting: dict[str, LayerCall] = {}

    def on_layer(self, call: LayerCall) -> Tensor | None:
        if not self.owner.targets.joining.takes(self.index, call.layer.name):
            # Fitted already: this chunk comes late.
            return call.run()
        if call.layer.name in self.owner.targets.residual:
            self.waiting[call.layer.name] = call
            return None
        self.owner.fit(call, None).add(call, self._grid(call), self._dense(call), None)
        self._meet(call)
        return self.owner.output(call)

    def on_sum(self, branch: Branch, other: Tensor, total: Callable[[], Tensor]) -> Tensor | None:
        call = self.waiting.pop(branch.call.layer.name, None)
        if call is None:
            return None
        grid = self._grid(call)
        columns = output_columns(call, other, grid)
        self.owner.fit(call, branch.affine).add(call, grid, self._dense(call), columns)
        self._meet(call)
        return torch.add(self._normalised(call, branch.affine), other)

    def _meet(self, call: LayerCall) -> None:
        count = self.owner.targets.joining.chunks(call.layer.name)
        self.lockstep.meet(self.index, self.owner.install, count)

    def _dense(self, call: LayerCall) -> Tensor:
        outputs = self.owner.targets.outputs[call.layer.name, self.index]
        rows = self.owner.rows[call.layer.name]
        # Kept channels are in order: where there are as many as before, they are the same.
        return outputs if len(rows) == len(outputs) else outputs.index_select(0, rows.to(outputs.device))

    def _grid(self, call: LayerCall) -> Grid:
        return self.owner.targets.known_grid(call.layer, self.index)

    def _normalised(self, call: LayerCall, affine: Affine | None) -> Tensor:
        output = self.owner.output(call)
        if call.layer.norm is not None:
            # The norm's mean may just have moved.
            normalised: Tensor = self.owner.network.get_submodule(call.layer.norm)(output)
            return normalised
        return output if affine is None else affine.apply(output)
