"""What the finished trials of a study say, for a strategy that learns from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from optuna.trial import FrozenTrial

from autoprune.searching.attributes import OUTPUT_ERROR, PROXIES, TRIED, WIDTHS
from autoprune.searching.improvement import Forecast, Stairs
from autoprune.searching.parameters import BATCH_REMOVAL, to_counts
from autoprune.searching.strategies.base import OnFew, Problem, ends_of
from autoprune.searching.strategies.untaken import Key
from autoprune.searching.surrogate import Observation, Surrogate
from autoprune.storing.queueing import parameters_of

LEAST_KNOWN = 5
"""Measured candidates from which a forecast is made."""
BEYOND = 0.05
"""Of the dense cost: what the best within a bound counts for, as much as between two targets."""


class Experience:
    """Reads every finished trial once, for none ever changes: a proposal costs the same after thousands.

    What it says does not depend on the order of reading, so a search that continues knows the very same.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.surrogate = Surrogate({batch: problem.curves(batch) for batch in problem.batches})
        self.known: set[Key] = set()
        """Candidates that were measured or considered."""
        self.measured: set[Key] = set()
        self._read: set[int] = set()
        self._measured: list[tuple[float, float, OnFew | None]] = []

    def read(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in those of the finished `trials` that are new."""
        new = [trial for trial in trials if trial.number not in self._read]
        seen = [found for trial in new for found in self._observations(trial)]
        self._read |= {trial.number for trial in new}
        self.known |= {(found.batch, *found.counts.tolist()) for found in seen}
        self.measured = self.measured.union(*(taken_by(self.problem, trial) for trial in new))
        self.surrogate.learn(seen)
        told = [trial for trial in new if WIDTHS in trial.user_attrs and trial.values]
        accuracies = [trial.values[0] for trial in told]
        judged = [OnFew.stored(trial.user_attrs.get(PROXIES, {})) for trial in told]
        self._measured += zip(self._costs(told), accuracies, judged, strict=True)
        # In an order that does not depend on who read them when.
        self._measured.sort(key=_in_order)

    def stairs(self) -> Stairs:
        """The front so far. Below a bound it ends a little above that: what is there counts as well."""
        space = self.problem.space
        least, dense = ends_of(space)
        end = min(dense, space.bounds.get(space.objective, dense) + BEYOND * dense)
        floor = self.problem.workshop.floor
        worst = min((accuracy for _, accuracy, _ in self._measured), default=0.0)
        start = worst if floor is None else floor
        return Stairs.of([(cost, accuracy) for cost, accuracy, _ in self._measured], (least, start), end)

    def forecast(self) -> Forecast | None:
        """Accuracy from a judgement on few images; None before enough trials have both."""
        judged = [(c, few.judgement, a) for c, a, few in self._measured if few is not None]
        both = [row for row in judged if math.isfinite(row[1])]
        if len(both) < LEAST_KNOWN:
            return None
        costs, judgements, accuracies = np.array(both).T
        return Forecast(costs, judgements, accuracies, ends_of(self.problem.space)[1])

    def _costs(self, trials: Sequence[FrozenTrial]) -> list[float]:
        """The objective's cost; a latency as predicted, which is what other candidates are compared by."""
        if not trials:
            return []
        rows = [[trial.user_attrs[WIDTHS][name] for name in self.problem.space.names] for trial in trials]
        return self.problem.space.objectives(np.array(rows)).tolist()  # type: ignore[no-any-return]

    def _observations(self, trial: FrozenTrial) -> Iterator[Observation]:
        """What a trial says of its own candidate, in full and on few images, and of those it considered."""
        stored = trial.user_attrs
        if OUTPUT_ERROR not in stored:
            return
        widths: Mapping[str, int] = stored[WIDTHS]
        counts = np.array([widths[name] for name in self.problem.space.names])
        batch = trial.params[BATCH_REMOVAL]
        yield Observation(counts, batch, stored[OUTPUT_ERROR])
        if (few := OnFew.stored(stored.get(PROXIES, {}))) is not None:
            yield Observation(counts, batch, few.error, on_few=True)
        for tried in stored.get(TRIED, []):
            if (few := OnFew.stored(tried)) is not None:
                yield Observation(np.array(tried["counts"]), tried["batch"], few.error, on_few=True)


def taken_by(problem: Problem, trial: FrozenTrial) -> set[Key]:
    """The candidate that a trial was proposed, queued or drawn, and the one it measured, where known."""
    parameters = parameters_of(trial)
    if BATCH_REMOVAL not in parameters:
        return set()
    batch, widths = int(parameters[BATCH_REMOVAL]), trial.user_attrs.get(WIDTHS)
    proposed = {(batch, *to_counts(problem.space, parameters).tolist())}
    if widths is None:
        return proposed
    return proposed | {(batch, *(int(widths[name]) for name in problem.space.names))}


def _in_order(measured: tuple[float, float, OnFew | None]) -> tuple[float, float, float]:
    cost, accuracy, few = measured
    return cost, accuracy, math.inf if few is None else few.judgement
