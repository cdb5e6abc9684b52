"""Independent reconstruction for searches that walk: what did not change is not solved again."""

from __future__ import annotations

from torch import Tensor, nn

from autoprune.graph.groups import Kept, Layer
from autoprune.reconstruction.base import Bench, Reconstruction
from autoprune.reconstruction.independent import affected, solved
from autoprune.reconstruction.weights import add_constant, set_weight


class RememberingIndependent(Reconstruction):
    """Independent reconstruction that keeps each layer's last solutions.

    A solution depends on the layer's kept columns alone, so candidates that differ in one group share all
    others; a search that walks from candidate to candidate solves only what changed.
    """

    kept_per_layer = 2
    """The current columns and those of one removal that is tried."""

    def __init__(self) -> None:
        self._solved: dict[str, dict[bytes, tuple[Tensor, Tensor | None]]] = {}

    def restore(self, bench: Bench, network: nn.Module, kept: Kept) -> None:
        for layer in affected(bench, kept):
            weight, shift = self._solution(bench, layer, kept)
            rows = bench.rows(layer, kept).to(weight.device)
            set_weight(network, layer, weight[rows])
            if shift is not None:
                add_constant(network, layer, shift[rows])

    def _solution(self, bench: Bench, layer: Layer, kept: Kept) -> tuple[Tensor, Tensor | None]:
        columns = bench.columns(layer, kept)
        known, key = self._solved.setdefault(layer.name, {}), columns.numpy().tobytes()
        # Taken out and put back, so that the one used longest ago comes first.
        known[key] = known.pop(key) if key in known else _solve(bench, layer, columns)
        while len(known) > self.kept_per_layer:
            del known[next(iter(known))]
        return known[key]


def _solve(bench: Bench, layer: Layer, columns: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight (out, n) in the network's own type and constant (out,) in float64."""
    found = solved(bench, layer, columns)
    dtype = bench.model.get_parameter(layer.weight).dtype
    return found.weight.flatten(0, 1).to(dtype), None if found.shift is None else found.shift.flatten()
