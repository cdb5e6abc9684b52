"""Pruning rates from gradients: thresholds of the pruning error, and the largest rates below them.

Sakai, Iwakawa and Tabaru, ISMSI 2022. A layer's pruning error is the L1 norm of the weights that go,
divided by the number of its weights; to first order the loss stays below its bound while each error is
below `Th_i = (L_before (1 + m) - L_after) q_i / n_i`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.searching.space import Space
from autoprune.searching.strategies.base import Gradients, LayerGradients


@dataclass(frozen=True)
class Thresholds:
    """Thresholds and errors of all layers of one network, in units of mean absolute weight.

    `counts` are its widths (groups,), `thresholds` (layers,), `errors` (layers, rates) with the rates
    falling; layers follow each other group by group.
    """

    space: Space
    counts: np.ndarray
    layers: tuple[tuple[LayerGradients, ...], ...]
    rates: tuple[float, ...]
    thresholds: np.ndarray
    errors: np.ndarray

    @classmethod
    def of(
        cls, space: Space, counts: np.ndarray, found: Gradients, loss_bound: float, rates: Sequence[float]
    ) -> Thresholds:
        """From the network's gradients; `loss_bound` is `L_before (1 + m)`."""
        layers = tuple(tuple(found.layers[name]) for name in space.names)
        flat = [layer for group in layers for layer in group]
        slope = np.array([layer.inverse_gradients / layer.weights for layer in flat])
        falling = tuple(sorted(set(rates), reverse=True))
        errors = np.array([[pruning_error(layer, rate) for rate in falling] for layer in flat])
        return cls(space, counts, layers, falling, (loss_bound - found.loss) * slope, errors)

    @property
    def limit(self) -> float:
        """Largest trust radius: sqrt(layers) times the largest threshold or error."""
        largest = max(float(self.thresholds.max()), float(self.errors.max()))
        return float(np.sqrt(len(self.thresholds)) * largest)

    def layer_rates(self, radius: float) -> np.ndarray:
        """Largest rate of each layer (layers,) with its error below its threshold, 0 where there is none.

        The vector of thresholds is scaled down to the norm `radius` where it is longer.
        """
        norm = float(np.linalg.norm(self.thresholds))
        clipped = self.thresholds * min(1.0, radius / norm) if norm > 0 else self.thresholds
        fits = self.errors < clipped[:, None]
        choices = np.where(fits, np.array(self.rates), 0.0)
        return np.asarray(choices.max(axis=1))

    def proposal(self, radius: float) -> np.ndarray:
        """Widths (groups,): the channels that at least one layer of a group keeps at its rate, rounded up."""
        rates, start, counts = self.layer_rates(radius), 0, self.counts.copy()
        for g, layers in enumerate(self.layers):
            mine = rates[start : start + len(layers)]
            start += len(layers)
            if not layers:
                continue
            union = np.any([keeps(layer, rate) for layer, rate in zip(layers, mine, strict=True)], axis=0)
            option = self.space.options[g]
            counts[g] = min(int(option[option >= union.sum()][0]), int(counts[g]))
        return counts


def removed(layer: LayerGradients, rate: float) -> int:
    """How many channels a rate takes from a layer: never more than it says."""
    # The tiny step keeps 0.3 * 10 from being rounded down to 2.
    return int(rate * len(layer.norms) + 1e-9)


def pruning_error(layer: LayerGradients, rate: float) -> float:
    """L1 norm of the weights that go at this rate, smallest filters first, over the layer's weights."""
    return float(np.sort(layer.norms)[: removed(layer, rate)].sum() / layer.weights)


def keeps(layer: LayerGradients, rate: float) -> np.ndarray:
    """Channels that the layer keeps at this rate, (width,) bool."""
    stays = np.ones(len(layer.norms), dtype=bool)
    stays[np.argsort(layer.norms, kind="stable")[: removed(layer, rate)]] = False
    return stays
