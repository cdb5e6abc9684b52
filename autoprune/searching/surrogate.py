"""What finished trials teach about the curves: a factor per group, with its uncertainty.

The additive proxy says that a candidate's output error follows `s = sum_g c_g(w_g)`. Measured errors
deviate, and the deviation tells which groups the curves under- or overrate. To first order in log
factors `theta`, `log sum_g c_g e^theta_g = log s + sum_g (c_g / s) theta_g`, so a linear model
`log error = a + b log s + d (log s)^2 + sum_g (c_g / s) theta_g + beta_batch` with Gaussian priors has
its posterior in closed form (Bayesian linear regression; Bishop 2006, section 3.3). Errors on few images
follow the same factors with an offset and a slope of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autoprune.searching.allocate import Curves, total_loss
from autoprune.searching.exact import ExactSum

FACTOR_SD = 0.4
"""Prior standard deviation of a group's log factor: curves are believed within a factor of about 1.5."""
BATCH_SD = 0.05
NOISE_SD = 0.05
_TREND_SD = 10.0
_TINY = 1e-12


@dataclass(frozen=True)
class Observation:
    """A candidate: widths (groups,), its batch removal size, its output error, and whether on few images."""

    counts: np.ndarray
    batch: int
    output_error: float
    on_few: bool = False


@dataclass(frozen=True)
class Draw:
    """One plausible world: log factors (groups,) and the batch removal size that is best in it."""

    log_factors: np.ndarray
    batch: int


class Surrogate:
    """Posterior over log factors and batch effects, given what was observed. `curves[batch]` per batch size.

    It can go on learning; the order of what it learns makes no difference, not in the last bit.
    """

    def __init__(self, curves: dict[int, Curves], observations: Iterable[Observation] = ()) -> None:
        self.curves, self.batches = curves, sorted(curves)
        self.groups = len(next(iter(curves.values())))
        trends = [_TREND_SD] * 2
        self._sd = np.concatenate(
            [[_TREND_SD] * 3, [FACTOR_SD] * self.groups, [BATCH_SD] * len(self.batches), trends]
        )
        size = len(self._sd)
        # Sums over observations of x x' and x y, with features x and log error y.
        self._squares, self._products = ExactSum(size, size), ExactSum(size)
        self.learn(observations)

    def learn(self, observations: Iterable[Observation]) -> None:
        """Take in further observations; those that say nothing are left out."""
        usable = [o for o in observations if self._is_usable(o)]
        if not usable:
            return
        x = np.array([self._features(o) for o in usable])
        y = np.log(np.array([max(o.output_error, _TINY) for o in usable]))
        self._squares.add(x[:, :, None] * x[:, None, :])
        self._products.add(x * y[:, None])
        self.__dict__.pop("_posterior", None)

    @property
    def mean(self) -> np.ndarray:
        """Intercept and trend (3,), log factors (groups,), effects (batches,), trend on few images (2,)."""
        return self._posterior[0]

    @property
    def covariance(self) -> np.ndarray:
        """Of all that `mean` holds."""
        return self._posterior[1]

    @cached_property
    def _posterior(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and covariance, and a factor of the covariance to draw with."""
        precision = np.diag(self._sd**-2.0) + self._squares.value / NOISE_SD**2
        covariance = np.linalg.inv(precision)
        mean = covariance @ self._products.value / NOISE_SD**2
        return mean, covariance, np.linalg.cholesky(covariance + 1e-12 * np.eye(len(mean)))

    def draw(self, rng: np.random.Generator, spread: float = 1.0) -> Draw:
        """A sample of the posterior (Thompson sampling); `spread` scales its standard deviation."""
        mean, _, factor = self._posterior
        sample = mean + spread * factor @ rng.standard_normal(len(mean))
        effects = sample[3 + self.groups :][: len(self.batches)]
        return Draw(sample[3 : 3 + self.groups], self.batches[int(np.argmin(effects))])

    def _is_usable(self, seen: Observation) -> bool:
        measured = math.isfinite(seen.output_error) and seen.batch in self.curves
        return measured and self._additive(seen) > _TINY

    def _additive(self, seen: Observation) -> float:
        return total_loss(self.curves[seen.batch], seen.counts)

    def _features(self, seen: Observation) -> np.ndarray:
        total = self._additive(seen)
        losses = [curve[count] for curve, count in zip(self.curves[seen.batch], seen.counts, strict=True)]
        one_hot = [float(batch == seen.batch) for batch in self.batches]
        trend = np.array([1.0, np.log(total), np.log(total) ** 2])
        return np.concatenate([trend, np.array(losses) / total, one_hot, trend[:2] * seen.on_few])
