"""A clock that is never wrong: the milliseconds of a network are a known function of its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from autoprune.data.inputs import Inputs
from autoprune.latency.timing import Latency, Sample

Cost = Callable[[int, int], float]
"""Milliseconds of a layer of so many rows and columns."""


def smooth(rows: int, columns: int) -> float:
    return 0.05 + 0.002 * rows + 0.001 * columns + 0.004 * rows * columns


def stairs(rows: int, columns: int) -> float:
    """Kernels that work on blocks of eight channels."""
    return smooth(-8 * (-rows // 8), -8 * (-columns // 8))


class FakeTiming:
    """`noise` is relative, of each call; `slower` multiplies what is measured whole, not the samples."""

    def __init__(
        self, inputs: Inputs, threads: int, *, cost: Cost = smooth, noise: float = 0.0, slower: float = 1.0
    ) -> None:
        self.inputs, self.threads, self.cost, self.noise, self.slower = inputs, threads, cost, noise, slower
        self.measured = self.sampled = 0
        self._rng = np.random.default_rng(0)

    def whole(self, network: nn.Module) -> Latency:
        self.measured += 1
        times = self.slower * self._noisy(self.total(network), 20)
        return Latency.of(times.tolist())

    def sample(self, network: nn.Module, layers: Mapping[str, str]) -> Sample:
        self.sampled += 1
        weights = dict(network.named_parameters())
        own = {name: self._layer(weights[weight]) for name, weight in layers.items()}
        after = {name: 0.01 * len(weights[weight]) for name, weight in layers.items()}
        return Sample(
            self._noisy(self.total(network), 7).tolist(),
            {name: self._noisy(ms, 7).tolist() for name, ms in own.items()},
            {name: self._noisy(ms, 7).tolist() for name, ms in after.items()},
        )

    def total(self, network: nn.Module) -> float:
        weights = [p for p in network.parameters() if p.ndim > 1]
        return 0.2 + sum(self._layer(weight) + 0.01 * len(weight) for weight in weights)

    def _layer(self, weight: nn.Parameter) -> float:
        return self.cost(weight.shape[0], weight.shape[1])

    def _noisy(self, ms: float, calls: int) -> np.ndarray:
        return np.asarray(ms * np.exp(self.noise * self._rng.standard_normal(calls)))
