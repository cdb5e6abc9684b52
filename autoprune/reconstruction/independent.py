"""Independent reconstruction: each consumer refitted as if everything above it were still dense."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import Tensor, nn

from autoprune.calibration.statistics import centred
from autoprune.criteria.views import dense_weight
from autoprune.graph.groups import Kept, Layer
from autoprune.linear_algebra import for_images
from autoprune.reconstruction.base import Bench, Reconstruction, reconstructions
from autoprune.reconstruction.least_squares import Solution, restore
from autoprune.reconstruction.weights import add_constant, set_weight

Solve = Callable[[Bench, Layer, Tensor], Solution]
"""Bench, layer and kept columns (m,) to the layer's new weight, for all of its output rows."""


def solved(bench: Bench, layer: Layer, columns: Tensor) -> Solution:
    """The weight, for all output rows, that restores the dense layer from the kept `columns` (m,)."""
    moments = bench.statistics.moments[layer.name]
    damping = for_images(bench.damping, len(columns), bench.statistics.images)
    columns = columns.to(moments.second.device)
    return restore(dense_weight(bench.model, layer), moments, columns, centred(layer), damping)


@reconstructions.register("independent")
class Independent(Reconstruction):
    """Least squares on the dense network's second moments: no pass over data, milliseconds."""

    citation = "He et al., ICCV 2017 (channel pruning), in closed form"

    def restore(self, bench: Bench, network: nn.Module, kept: Kept) -> None:
        restore_independently(bench, network, kept)


def restore_independently(
    bench: Bench, network: nn.Module, kept: Kept, without: Collection[str] = (), solve: Solve = solved
) -> None:
    """Set the refitted weights of every layer that loses columns, but of those named in `without`."""
    for layer in affected(bench, kept):
        if layer.name in without:
            continue
        solution = solve(bench, layer, bench.columns(layer, kept))
        rows = bench.rows(layer, kept).to(solution.weight.device)
        set_weight(network, layer, solution.weight.flatten(0, 1)[rows])
        if solution.shift is not None:
            add_constant(network, layer, solution.shift.flatten()[rows])


def affected(bench: Bench, kept: Kept) -> list[Layer]:
    """Layers with statistics that lose columns and may be refitted, in order of execution."""
    known = [layer for layer in bench.graph.layers if layer.name in bench.statistics.moments]
    return [layer for layer in known if bench.loses_columns(layer, kept) and bench.refits(layer)]
