"""Sequential reconstruction: every layer is refitted on what the pruned network really gives it.

In order of execution, each layer gets the weight that maps its inputs `z` in the pruned network to the
dense network's outputs `y`: `W = E[y z^T] E[z z^T]^-1`. A layer that ends in a residual sum aims at
the dense sum minus the pruned shortcut, so it also repairs what the layers above left over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from autoprune.calibration.accumulate import call_moments
from autoprune.calibration.columns import output_columns
from autoprune.calibration.flow import Affine, Branch, FlowTap
from autoprune.calibration.moments import Moments
from autoprune.calibration.statistics import centred
from autoprune.calibration.taps import LayerCall
from autoprune.data.inputs import Inputs
from autoprune.graph.groups import Kept, Layer
from autoprune.reconstruction.base import Bench, Reconstruction, reconstructions
from autoprune.reconstruction.independent import affected, solutions
from autoprune.reconstruction.least_squares import Solution, refit
from autoprune.reconstruction.lockstep import Lockstep
from autoprune.reconstruction.targets import DenseTargets
from autoprune.reconstruction.weights import add_constant, set_weight


@reconstructions.register("sequential")
class Sequential(Reconstruction):
    """Least squares in order of execution on the pruned network's own inputs, residual-aware.

    All layers from the first that loses columns are refitted, those that only read a disturbed input
    too. One pass of the candidate over the calibration images.
    """

    citation = "He et al., ICCV 2017; Luo et al., ICCV 2017 (ThiNet), residual sums as targets"

    def restore(self, bench: Bench, network: nn.Module, kept: Kept) -> None:
        layers = disturbed(bench, kept)
        refitted = {layer.name for layer in layers}
        for layer, solution in solutions(bench, kept):
            rows = bench.rows(layer, kept).to(solution.weight.device)
            set_weight(network, layer, solution.weight.flatten(0, 1)[rows])
            # A layer that is refitted below gets its constant there.
            if solution.shift is not None and layer.name not in refitted:
                add_constant(network, layer, solution.shift.flatten()[rows])
        if layers:
            rows_of = {layer.name: bench.rows(layer, kept) for layer in layers}
            SequentialPass(network, layers, bench.targets, rows_of, bench.damping).run(
                bench.chunks, bench.lockstep
            )


def disturbed(bench: Bench, kept: Kept) -> list[Layer]:
    """Layers whose inputs change: from the first that loses columns to the last, in order."""
    names = {layer.name for layer in affected(bench, kept)}
    layers = bench.targets.refittable
    first = next((i for i, layer in enumerate(layers) if layer.name in names), len(layers))
    return list(layers[first:])


class SequentialPass:
    """Refits `layers` of `network` in place, all chunks of calibration images in lockstep."""

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[Layer],
        targets: DenseTargets,
        rows: Mapping[str, Tensor],
        damping: float,
    ) -> None:
        self.network, self.layers, self.targets = network, layers, targets
        self.rows, self.damping = rows, damping
        self.solutions: dict[str, Solution] = {}

    def run(self, chunks: Sequence[Inputs], lockstep: Lockstep) -> dict[str, Solution]:
        """What was solved, by layer name."""

        def chunk(index: int) -> None:
            handler = _Chunk(self, lockstep, index)
            with torch.no_grad(), FlowTap(self.network, self.layers, handler):
                chunks[index].call(self.network)

        lockstep.run(chunk)
        return self.solutions

    def install(self, call: LayerCall, moments: Sequence[Moments], affine: Affine | None) -> None:
        """Solve one layer on the sum of the chunks' moments (the first is used up)."""
        total = moments[0]
        for other in moments[1:]:
            total.add(other)
        prior = call.weight.double().reshape(call.groups, call.weight.shape[0] // call.groups, -1)
        solution = refit(prior, total, centred(call.layer), self.damping)
        usable = torch.ones(call.weight.shape[0], device=prior.device) if affine is None else _usable(affine)
        usable = usable.bool().reshape(call.groups, -1)
        set_weight(self.network, call.layer, torch.where(usable.unsqueeze(-1), solution.weight, prior))
        if solution.shift is not None:
            constant = solution.shift if call.bias is None else solution.shift - _bias(call)
            add_constant(self.network, call.layer, torch.where(usable, constant, 0.0).flatten())
        self.solutions[call.layer.name] = solution

    def current(self, call: LayerCall) -> LayerCall:
        """The same call with the weights that the network has now."""
        bias = self.network.get_parameter(call.layer.bias) if call.layer.bias else None
        return call.with_weights(self.network.get_parameter(call.layer.weight), bias)


class _Chunk:
    """Watches one chunk's forward pass and meets the others at every layer."""

    def __init__(self, owner: SequentialPass, lockstep: Lockstep, index: int) -> None:
        self.owner, self.lockstep, self.index = owner, lockstep, index
        # Layers that have run, but whose targets are known only when their residual sums come.
        self.waiting: dict[str, LayerCall] = {}

    def on_layer(self, call: LayerCall) -> Tensor:
        if call.layer.name in self.owner.targets.residual:
            self.waiting[call.layer.name] = call
            return call.run()
        self._meet(call, self._dense(call), None)
        return self.owner.current(call).run()

    def on_sum(self, branch: Branch, other: Tensor, total: Tensor) -> Tensor | None:
        call = self.waiting.pop(branch.call.layer.name, None)
        if call is None:
            return None
        grid = self.owner.targets.known_grid(call.layer, self.index)
        target = self._dense(call) - output_columns(call, other, grid)
        self._meet(call, _before(target, branch.affine), branch.affine)
        return self._normalised(call, branch.affine) + other

    def _dense(self, call: LayerCall) -> Tensor:
        outputs = self.owner.targets.outputs[call.layer.name, self.index]
        return outputs[self.owner.rows[call.layer.name].to(outputs.device)]

    def _meet(self, call: LayerCall, target: Tensor, affine: Affine | None) -> None:
        moments = call_moments(call, self.owner.targets.known_grid(call.layer, self.index), target)
        self.lockstep.meet(self.index, moments, lambda all_: self.owner.install(call, all_, affine))

    def _normalised(self, call: LayerCall, affine: Affine | None) -> Tensor:
        output = self.owner.current(call).run()
        if call.layer.norm is not None:
            # The norm's mean may just have moved.
            normalised: Tensor = self.owner.network.get_submodule(call.layer.norm)(output)
            return normalised
        return output if affine is None else affine.apply(output)


def _bias(call: LayerCall) -> Tensor:
    assert call.bias is not None
    return call.bias.double().reshape(call.groups, -1)


def _before(target: Tensor, affine: Affine | None) -> Tensor:
    """The layer output that the batch norm turns into `target`."""
    if affine is None:
        return target
    scale = torch.where(_usable(affine), affine.scale, 1.0)
    return (target - affine.shift[:, None]) / scale[:, None]


def _usable(affine: Affine) -> Tensor:
    """Channels that the batch norm does not switch off, as bool (channels,)."""
    return affine.scale.abs() > 1e-6 * affine.scale.abs().max()
