"""Independent reconstruction for searches that walk: what did not change is not solved again."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from autoprune.graph.groups import Kept, Layer
from autoprune.reconstruction.base import Bench, Reconstruction
from autoprune.reconstruction.independent import restore_independently, solved
from autoprune.reconstruction.least_squares import Solution


class RememberingIndependent(Reconstruction):
    """Independent reconstruction that keeps each layer's last solutions.

    A solution depends on the layer's kept columns alone, so candidates that differ in one group share all
    others; a search that walks from candidate to candidate solves only what changed.
    """

    kept_per_layer = 2
    """The current columns and those of one removal that is tried."""

    def __init__(self) -> None:
        self._solved: dict[str, dict[bytes, Solution]] = {}

    def restore(self, bench: Bench, network: nn.Module, kept: Kept) -> None:
        restore_independently(bench, network, kept, solve=self._solution)

    def _solution(self, bench: Bench, layer: Layer, columns: Tensor) -> Solution:
        known, key = self._solved.setdefault(layer.name, {}), columns.numpy().tobytes()
        # Taken out and put back, so that the one used longest ago comes first.
        known[key] = known.pop(key) if key in known else _solve(bench, layer, columns)
        while len(known) > self.kept_per_layer:
            del known[next(iter(known))]
        return known[key]


def _solve(bench: Bench, layer: Layer, columns: Tensor) -> Solution:
    """The weight in the network's own type, which takes half of the memory."""
    found = solved(bench, layer, columns)
    return replace(found, weight=found.weight.to(bench.model.get_parameter(layer.weight).dtype))
