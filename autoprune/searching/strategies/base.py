"""What a strategy is: candidates to begin with, and an Optuna sampler for those that follow."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from autoprune.components import Component
from autoprune.progress import Progress
from autoprune.registry import Registry
from autoprune.searching.allocate import Curves, allocate, total_loss
from autoprune.searching.parameters import Parameters, to_parameters
from autoprune.searching.profile import Profile
from autoprune.searching.space import Space

SHARES = tuple(0.05 * step for step in range(1, 20))
"""Shares of the dense cost that candidates aim at: people ask for round numbers."""


ADDITIVE = "additive"
"""Proxy: the summed loss of the profile's curves."""
ON_FEW = "error_on_few_images"
"""Proxy: the output error of the candidate restored on few images."""

LOSS_ON_FEW = "loss_on_few_images"
"""Proxy: 1 - the metric of that candidate, of a classifier's accuracy its smooth form; only with labels."""

Tried = dict[str, Any]
"""Plain JSON: `counts` (groups,), `batch`, and the proxies by name."""


@dataclass(frozen=True)
class OnFew:
    """A candidate restored as the study does it, but on few images; both are better when lower."""

    error: float
    loss: float | None = None

    @property
    def judgement(self) -> float:
        """What candidates are ranked by: the loss where there are labels; infinite for a broken network."""
        if not math.isfinite(self.error):
            return math.inf
        return math.log(max(self.error, 1e-12)) if self.loss is None else self.loss

    @property
    def proxies(self) -> dict[str, float]:
        return {ON_FEW: self.error, **({} if self.loss is None else {LOSS_ON_FEW: self.loss})}

    @classmethod
    def stored(cls, proxies: Mapping[str, Any]) -> OnFew | None:
        """As a trial or a candidate beside it says; None where it was not judged."""
        error = proxies.get(ON_FEW)
        return None if error is None else cls(error, proxies.get(LOSS_ON_FEW))


Measure = Literal["accuracy", "last-layer-error"]
"""How a candidate is judged cheaply. Both are better when lower: 1 - accuracy, relative output error."""

Split = Literal["train", "validation"]


@dataclass(frozen=True)
class LayerGradients:
    """One producer of a group in some network, with what its weights mean for the loss.

    `norms`: L1 norm of each channel's filter, (width,); `weights`: how many weights these filters have;
    `inverse_gradients`: sum over them of 1 / |dL/dw|, averaged over batches of images.
    """

    norms: np.ndarray
    weights: int
    inverse_gradients: float


@dataclass(frozen=True)
class Gradients:
    """Mean loss of a network on labelled images, and its layers with their gradients by group."""

    loss: float
    layers: Mapping[str, Sequence[LayerGradients]]


class Workshop(Protocol):
    """What strategies may ask of the network; answers are numbers, the same ones each time."""

    @property
    def progress(self) -> Progress:
        """Where long work is shown."""

    @property
    def dense_accuracy(self) -> float:
        """The study's metric of the dense network, higher is better."""

    @property
    def floor(self) -> float | None:
        """The metric of a network that has learned nothing; None where nobody knows."""

    def assess(self, widths: Mapping[str, int], batch: int, measure: Measure, images: int) -> float:
        """A candidate, restored the quick way, on some of the images the metric runs on; lower is better."""

    def on_few(self, widths: Mapping[str, int], batch: int) -> OnFew:
        """Judgement of a candidate restored as the study does it, but on few images.

        A fraction of a trial's cost, and orders candidates nearly like it (see studies/LOG.md).
        """

    def dispersion(self, group: str) -> float:
        """Kernel Dispersion of the group's dense filters, 0..1."""

    def gradients(self, trial: int | None, split: Split, images: int) -> Gradients:
        """Of the network of a finished trial as the study restores it; of the dense one for None.

        Where there are no labelled training images, the calibration images stand in, with the dense
        network's own answers as labels.
        """

    def remember(self, key: str, value: Any) -> None:
        """Keep plain JSON with the study, so that a search that continues finds it."""

    def recall(self, key: str) -> Any:
        """What was remembered under this key, or None."""


@dataclass(frozen=True)
class Problem:
    """What a strategy knows: no tensor of the model, only the space, the profile's curves and a workshop."""

    space: Space
    profile: Profile
    batches: Sequence[int]
    seed: int
    workshop: Workshop

    def curves(self, batch: int) -> Curves:
        return self.profile.curves(self.space.names, batch)

    def targets(self, shares: Sequence[float] = SHARES) -> list[float]:
        """What candidates aim at, in units of the space's objective: these shares of the dense cost, as far
        as they are reachable, and the bound."""
        space = self.space
        least, dense = ends_of(space)
        bound = space.bounds.get(space.objective, dense)
        aims = [dense * share if isinstance(dense, float) else round(dense * share) for share in shares]
        inside = [aim for aim in aims if least <= aim < bound]
        return sorted({*inside, bound} if bound < dense else {*inside} or {dense})


def ends_of(space: Space) -> tuple[float, float]:
    """The space's objective of its narrowest candidate and of the dense network."""
    least, dense = space.objectives(np.stack([space.floor, space.dense])).tolist()
    return least, dense


@dataclass(frozen=True, kw_only=True)
class Strategy(Component, ABC):
    """Proposes candidates; every proposal is projected onto the budget before it is evaluated.

    Options are the fields of its dataclass beside `problem`.
    """

    needs_labels: ClassVar[bool] = False
    """Whether it works only where the metric is the accuracy of a classifier."""
    one_at_a_time: ClassVar[bool] = False
    """Whether a candidate follows from the one before: other workers then wait for it."""
    continues: ClassVar[bool] = False
    """Whether it names the trial that the next one continues from, see `parent`."""
    assesses: ClassVar[bool] = False
    """Whether it asks the workshop to `assess` candidates, which reads the second moments."""

    problem: Problem

    @classmethod
    def check(cls, space: Space, options: Mapping[str, Any]) -> None:
        """ConfigError where options ask for what the space does not hold; before any long work."""

    def warm_start(self) -> list[Parameters]:
        """Candidates to evaluate first: the knapsack front, so that any sampler starts from it."""
        problem, batch = self.problem, self.problem.batches[0]
        found = []
        for target in spread_out(self.aims()):
            counts = allocate(problem.space.aimed(target), problem.curves(batch))
            found.append(to_parameters(problem.space, counts, batch))
        return found

    def aims(self) -> list[float]:
        """Costs that candidates aim at, of the kind that the study's objective is."""
        return self.problem.targets()

    @abstractmethod
    def sampler(self, finished: int) -> BaseSampler:
        """Sampler for a study with `finished` trials; its randomness follows from the seed and that."""

    def done(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether these trials leave nothing to propose: the search then ends early.

        They are finished, or (unless `one_at_a_time`) `storing.queueing.broken`.
        """
        return False

    def proxies(self, counts: np.ndarray, batch: int) -> dict[str, float]:
        """What cheaper rungs say of a candidate that is about to be measured, by name; lower is better."""
        return {ADDITIVE: total_loss(self.problem.curves(batch), counts)}

    def tried(self, trial: int) -> list[Tried]:
        """Candidates that were considered for this trial and went no further, with what was found."""
        return []

    def parent(self, trials: Sequence[FrozenTrial]) -> int | None:
        """Number of the finished trial that the next one continues from; None for the dense network."""
        return None


def spread_out(values: Sequence[float]) -> list[float]:
    """The same values, the widest gap filled next: a search that stops early has still seen the range."""
    if len(values) <= 2:
        return list(values)
    order = [0, len(values) - 1]
    while len(order) < len(values):
        known = sorted(order)
        low, high = max(pairwise(known), key=lambda gap: gap[1] - gap[0])
        order.append((low + high) // 2)
    return [values[i] for i in order]


strategies: Registry[type[Strategy]] = Registry("strategy")
