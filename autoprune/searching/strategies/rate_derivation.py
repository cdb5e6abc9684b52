"""Automatic pruning-rate derivation: rates from gradients, inside a trust radius."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from optuna import Study
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from pydantic import Field

from autoprune.errors import StudyError
from autoprune.searching.allocate import project
from autoprune.searching.attributes import WIDTHS
from autoprune.searching.parameters import Parameters, to_parameters
from autoprune.searching.strategies.base import Split, Strategy, strategies
from autoprune.searching.strategies.proposing import Proposer
from autoprune.searching.strategies.thresholds import Thresholds
from autoprune.searching.study import finished
from autoprune.storing.queueing import origin_of

Rate = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Note:
    """Kept of a step: the trust radius and the trial that it started from, None for the dense network."""

    radius: float
    parent: int | None

    @staticmethod
    def read(stored: Any) -> Note:
        """As a study holds it; StudyError for a radius or a parent that no step could have."""
        values: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
        radius, parent = values.get("radius", 0.0), values.get("parent")
        positive = type(radius) in (int, float) and math.isfinite(radius) and radius > 0
        if not positive or not (parent is None or type(parent) is int):
            raise StudyError(
                f"a stored step should have a radius above 0 and a parent, got {str(stored)[:60]}."
            )
        return Note(radius, parent)


@dataclass(frozen=True)
class Step:
    """What to evaluate next: widths (groups,), and how they came about."""

    counts: np.ndarray
    note: Note


@strategies.register("rate-derivation")
@dataclass(frozen=True, kw_only=True)
class RateDerivation(Strategy):
    """Derives each layer's rate from gradients, prunes, recovers, and goes on while the accuracy holds.

    Each layer takes the largest of `rates` (of its current width) whose pruning error is below
    `Th_i = (L_before (1 + margin) - L_after) q_i / n_i` (see `thresholds`), with the vector of thresholds
    clipped to a norm, the trust radius. A candidate whose accuracy plus `tolerance` exceeds the dense
    network's is accepted: the search goes on from there and the radius at least doubles, enough for a width
    to change; otherwise it goes back and the radius at least halves. Ends when all rates are zero.

    Gradients and losses are those of the network as the study restores (or fine-tunes) it, on `images`
    labelled images of the `split`; where a study has no labelled training images, on calibration images
    with the dense network's own answers as labels. Without fine-tuning use `validation`: a network knows
    its training images by heart, so their loss multiplies with the first channels that go, and the search
    ends there. Ranking inside a layer is by L1 norm, as in the paper; coupled layers keep the union
    of their channels. Readings: the union decides a group's width, the study's criterion which channels
    stay (`l1` comes closest to the paper); widths are rounded up to allowed ones; the first radius is its
    upper limit, sqrt(layers) times the largest threshold or error; with a budget, proposals are projected
    onto it. Uses the first batch removal size alone.

    The owner of this method holds patent filings on deriving pruning rates: whoever uses it for more than
    research should look into them.
    """

    citation = "Sakai, Iwakawa and Tabaru, ISMSI 2022"
    needs_labels: ClassVar[bool] = True
    one_at_a_time: ClassVar[bool] = True
    continues: ClassVar[bool] = True

    margin: Annotated[float, Field(ge=0)] = 0.1
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.01
    rates: Annotated[tuple[Rate, ...], Field(min_length=1)] = (0.5, 0.4, 0.3, 0.2, 0.1)
    split: Split = "train"
    images: Annotated[int, Field(ge=1)] = 512

    def warm_start(self) -> list[Parameters]:
        return []

    def sampler(self, finished: int) -> BaseSampler:
        return _Sampler(self)

    def done(self, trials: Sequence[FrozenTrial]) -> bool:
        return self.next_step(trials) is None

    def parent(self, trials: Sequence[FrozenTrial]) -> int | None:
        """The last accepted trial."""
        last = self._last(trials)
        return None if last is None else self._accepted(*last)

    def next_step(self, trials: Sequence[FrozenTrial]) -> Step | None:
        """What follows from the last of our finished trials; None when every rate is zero."""
        last = self._last(trials)
        if last is None:
            start = self._thresholds(None, trials)
            return self._narrow(start, start.limit, None, None)
        trial, before = last
        current = self._accepted(trial, before)
        found = self._thresholds(current, trials)
        if current == trial.number:
            return self._widen(found, 2 * before.radius, current)
        return self._narrow(found, before.radius / 2, current, self._counts(trial))

    def _widen(self, found: Thresholds, radius: float, parent: int | None) -> Step | None:
        """The first radius, doubling up to the limit, at which a width changes."""
        while np.array_equal(found.proposal(radius), found.counts) and radius < found.limit:
            radius *= 2
        return self._narrow(found, min(radius, found.limit), parent, None)

    def _narrow(
        self, found: Thresholds, radius: float, parent: int | None, rejected: np.ndarray | None
    ) -> Step | None:
        """The first radius, halving, that leads elsewhere than to the rejected widths."""
        while True:
            wanted = found.proposal(radius)
            if np.array_equal(wanted, found.counts):
                return None
            counts = project(self.problem.space, self.problem.curves(self.problem.batches[0]), wanted)
            if rejected is None or not np.array_equal(counts, rejected):
                return Step(counts, Note(radius, parent))
            radius /= 2

    def _thresholds(self, trial: int | None, trials: Sequence[FrozenTrial]) -> Thresholds:
        space, workshop = self.problem.space, self.problem.workshop
        dense_loss = workshop.gradients(None, self.split, self.images).loss
        found = workshop.gradients(trial, self.split, self.images)
        counts = space.dense if trial is None else self._counts(_numbered(trials, trial))
        bound = dense_loss * (1 + self.margin)
        return Thresholds.of(space, counts, found, bound, self.rates)

    def _counts(self, trial: FrozenTrial) -> np.ndarray:
        return np.array([trial.user_attrs[WIDTHS][name] for name in self.problem.space.names])

    def _accepted(self, trial: FrozenTrial, note: Note) -> int | None:
        """The trial that the search stands at after this one."""
        held = trial.values[0] + self.tolerance > self.problem.workshop.dense_accuracy
        return trial.number if held else note.parent

    def _last(self, trials: Sequence[FrozenTrial]) -> tuple[FrozenTrial, Note] | None:
        for trial in reversed(trials):
            stored = self.problem.workshop.recall(_key(origin_of(trial)))
            if stored is not None:
                return trial, Note.read(stored)
        return None


class _Sampler(Proposer):
    def __init__(self, strategy: RateDerivation) -> None:
        super().__init__(strategy.problem)
        self.strategy = strategy

    def propose(self, study: Study, trial: FrozenTrial) -> Parameters:
        trials = finished(study)
        step = self.strategy.next_step(trials)
        if step is None:
            # Another worker's trial has ended the search a moment ago: the last candidate again.
            return dict(trials[-1].params)
        self.problem.workshop.remember(_key(trial.number), vars(step.note))
        return to_parameters(self.problem.space, step.counts, self.problem.batches[0])


def _key(trial: int) -> str:
    return f"rate-derivation/{trial}"


def _numbered(trials: Sequence[FrozenTrial], number: int) -> FrozenTrial:
    for trial in trials:
        if trial.number == number:
            return trial
    raise StudyError(f"a stored step names trial {number}, which the study does not have.")
