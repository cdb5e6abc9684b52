"""Sizes of all layers' weights as functions of the kept widths: what a layer's time depends on."""

from __future__ import annotations

import math

import numpy as np

from autoprune.graph.groups import ChannelGraph


class LayerShapes:
    """The layers of a network in order of execution, with the groups along dimensions 0 and 1 of each.

    `sizes` (layers, 2) are the dense sizes. `positions` (layers,): multiply-accumulates per weight, the
    number of places at which the layer computes an output.
    """

    def __init__(self, graph: ChannelGraph) -> None:
        self.layers = graph.layers
        self.weights = {layer.name: layer.weight for layer in graph.layers}
        self.dense = np.array([group.width for group in graph.groups], dtype=np.float64)
        self.sizes = np.array([layer.shape[:2] for layer in graph.layers], dtype=np.float64).reshape(-1, 2)
        self.positions = np.array([layer.macs_per_weight for layer in graph.layers], dtype=np.float64)
        self.inner = np.array([math.prod(layer.shape[2:]) for layer in graph.layers], dtype=np.float64)
        self.forms = np.zeros((2, len(graph.groups), len(graph.layers)))
        column = {layer.weight: place for place, layer in enumerate(graph.layers)}
        for g, group in enumerate(graph.groups):
            for member in group.members:
                if member.tensor in column and member.dim in (0, 1):
                    self.forms[member.dim, g, column[member.tensor]] += member.positions.shape[1]

    def at(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sizes along dimensions 0 and 1 for candidates (n, groups), each (n, layers)."""
        removed = self.dense - counts
        return self.sizes[:, 0] - removed @ self.forms[0], self.sizes[:, 1] - removed @ self.forms[1]

    def padded(self, sizes: np.ndarray, dim: int, block: int) -> np.ndarray:
        """Sizes (n, layers) rounded up to blocks, never beyond the dense ones."""
        return np.asarray(np.minimum(np.ceil(sizes / block) * block, self.sizes[:, dim]))

    def together(self) -> np.ndarray:
        """Whether two groups meet in a layer, one along each dimension, (groups, groups) bool."""
        met = (self.forms[0] > 0).astype(float) @ (self.forms[1] > 0).astype(float).T
        return np.asarray((met + met.T > 0) & ~np.eye(len(met), dtype=bool))
