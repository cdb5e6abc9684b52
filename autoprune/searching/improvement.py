"""What measuring a candidate may add to the front, and what a cheap judgement says of its accuracy.

The front is a staircase: at every cost the best accuracy so far. Of a candidate whose accuracy is thought
normal, the expected improvement of the area below the stairs is a sum over the steps of the expected
improvement of each (Jones, Schonlau and Welch, 1998, equation 15; Emmerich, Deutz and Klinkenberg, 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEAR = 0.15
"""Measured candidates count for a forecast by their distance in shares of the dense cost."""
LEAST_SD = 0.005
"""No forecast of an accuracy is believed to be better than that."""
PRIOR_SLOPE_SD = 3.0
"""Of the accuracy on the judgement, both in standard deviations: hardly a prior at all."""


@dataclass(frozen=True)
class Stairs:
    """Best accuracy by cost: `accuracies[i]` from `costs[i]` to `costs[i + 1]`, the last up to `end`."""

    costs: np.ndarray
    accuracies: np.ndarray
    end: float

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]], start: tuple[float, float], end: float) -> Stairs:
        """Of measured (cost, accuracy); `start`: the least cost, and what an untrained network has."""
        costs, accuracies = [start[0]], [start[1]]
        for cost, accuracy in sorted(points):
            if accuracy > accuracies[-1] and cost < end:
                costs.append(max(cost, start[0]))
                accuracies.append(accuracy)
        return cls(np.array(costs), np.array(accuracies), end)

    def improvement(self, cost: float, mean: float, sd: float) -> float:
        """Expected growth of the area by a candidate of this cost whose accuracy has this mean and sd."""
        edges = np.append(self.costs, self.end)
        widths = np.maximum(edges[1:] - np.maximum(edges[:-1], cost), 0.0)
        gains = [expected_excess(mean - height, sd) for height in self.accuracies]
        return float(widths @ np.array(gains))

    def gain(self, cost: float, mean: float, sd: float) -> float:
        """Expected growth of the best accuracy at this cost alone."""
        return expected_excess(mean - self._height(cost), sd)

    def between(self) -> list[float]:
        """Costs in the middle of each step, where another would fit."""
        edges = np.append(self.costs, self.end)
        return ((edges[1:] + edges[:-1]) / 2).tolist()  # type: ignore[no-any-return]

    def _height(self, cost: float) -> float:
        place = int(np.searchsorted(self.costs, cost, "right")) - 1
        return float(self.accuracies[max(0, place)])

    def at(self, cost: float) -> float:
        """Accuracy that a candidate in line with its neighbours has there."""
        return float(np.interp(cost, self.costs, self.accuracies))


def expected_excess(mean: float, sd: float) -> float:
    """E max(0, x) of a normal x."""
    z = mean / sd
    return mean * 0.5 * (1 + math.erf(z / math.sqrt(2))) + sd * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Forecast:
    """Accuracy from a cheap judgement: a line fitted to the measured candidates of similar cost.

    Locally weighted regression: Cleveland, JASA 74, 1979.
    """

    costs: np.ndarray
    judgements: np.ndarray
    accuracies: np.ndarray
    dense: float

    def __call__(self, cost: float, judgement: float) -> tuple[float, float]:
        """Mean and standard deviation of the accuracy of a candidate."""
        weights = np.exp(-0.5 * ((self.costs - cost) / (NEAR * self.dense)) ** 2) + 1e-6
        weights /= weights.sum()
        x, y = self.judgements, self.accuracies
        x_mean, y_mean = float(weights @ x), float(weights @ y)
        x_sd = math.sqrt(float(weights @ (x - x_mean) ** 2)) + 1e-12
        y_sd = math.sqrt(float(weights @ (y - y_mean) ** 2))
        z, count = (x - x_mean) / x_sd, 1 / float(weights @ weights)
        slope = float(weights @ (z * (y - y_mean))) * count / (count + 1 / PRIOR_SLOPE_SD**2)
        left = math.sqrt(float(weights @ (y - y_mean - slope * z) ** 2) * count / max(count - 2, 1.0))
        here = (judgement - x_mean) / x_sd
        sd = max(left, LEAST_SD) * math.sqrt(1 + (1 + here**2) / count)
        return y_mean + slope * here, min(sd, y_sd + LEAST_SD)
