"""What finished trials teach about the curves: a factor per group, with its uncertainty.

The additive proxy says that a candidate's output error follows `s = sum_g c_g(w_g)`. Measured errors
deviate, and the deviation tells which groups the curves under- or overrate. To first order in log
factors `theta`, `log sum_g c_g e^theta_g = log s + sum_g (c_g / s) theta_g`, so a linear model
`log error = a + b log s + d (log s)^2 + sum_g (c_g / s) theta_g + beta_batch` with Gaussian priors has
its posterior in closed form (Bayesian linear regression; Bishop 2006, section 3.3). Errors on few images
follow the same factors with an offset and a slope of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.searching.allocate import Curves, total_loss

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
    """Posterior over log factors and batch effects, given observations. `curves[batch]` per batch size."""

    def __init__(self, curves: dict[int, Curves], observations: Sequence[Observation]) -> None:
        self.curves, self.batches = curves, sorted(curves)
        self.groups = len(next(iter(curves.values())))
        trends = [_TREND_SD] * 2
        sd = np.concatenate(
            [[_TREND_SD] * 3, [FACTOR_SD] * self.groups, [BATCH_SD] * len(self.batches), trends]
        )
        usable = [o for o in observations if o.batch in curves and self._additive(o) > _TINY]
        x = np.array([self._features(o) for o in usable]).reshape(-1, len(sd))
        y = np.log(np.array([max(o.output_error, _TINY) for o in usable]))
        precision = np.diag(sd**-2.0) + x.T @ x / NOISE_SD**2
        self.covariance = np.linalg.inv(precision)
        self.mean = self.covariance @ (x.T @ y) / NOISE_SD**2

    def draw(self, rng: np.random.Generator, spread: float = 1.0) -> Draw:
        """A sample of the posterior (Thompson sampling); `spread` scales its standard deviation."""
        factor = np.linalg.cholesky(self.covariance + 1e-12 * np.eye(len(self.mean)))
        sample = self.mean + spread * factor @ rng.standard_normal(len(self.mean))
        effects = sample[3 + self.groups :][: len(self.batches)]
        return Draw(sample[3 : 3 + self.groups], self.batches[int(np.argmin(effects))])

    def _additive(self, seen: Observation) -> float:
        return total_loss(self.curves[seen.batch], seen.counts)

    def _features(self, seen: Observation) -> np.ndarray:
        total = self._additive(seen)
        losses = [curve[count] for curve, count in zip(self.curves[seen.batch], seen.counts, strict=True)]
        one_hot = [float(batch == seen.batch) for batch in self.batches]
        trend = np.array([1.0, np.log(total), np.log(total) ** 2])
        return np.concatenate([trend, np.array(losses) / total, one_hot, trend[:2] * seen.on_few])
