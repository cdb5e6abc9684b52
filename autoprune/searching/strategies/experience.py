"""What the finished trials of a study say, for a strategy that learns from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from optuna.trial import FrozenTrial

from autoprune.searching.attributes import OUTPUT_ERROR, PROXIES, TRIED, WIDTHS
from autoprune.searching.parameters import BATCH_REMOVAL
from autoprune.searching.strategies.base import ON_FEW, Problem
from autoprune.searching.surrogate import Observation, Surrogate

Key = tuple[int, ...]
"""A candidate: its batch removal size, then its widths."""


class Experience:
    """Reads every finished trial once, for none ever changes: a proposal costs the same after thousands.

    What it says does not depend on the order of reading, so a search that continues knows the very same.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.surrogate = Surrogate({batch: problem.curves(batch) for batch in problem.batches})
        self.known: set[Key] = set()
        """Candidates that were measured or considered."""
        self._read: set[int] = set()
        self._measured: list[tuple[float, float]] = []

    def read(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in those of the finished `trials` that are new."""
        new = [trial for trial in trials if trial.number not in self._read]
        seen = [found for trial in new for found in self._observations(trial)]
        self._read |= {trial.number for trial in new}
        self.known |= {(found.batch, *found.counts.tolist()) for found in seen}
        self.surrogate.learn(seen)
        judged = [trial for trial in new if ON_FEW in trial.user_attrs.get(PROXIES, {})]
        errors = [trial.user_attrs[PROXIES][ON_FEW] for trial in judged]
        self._measured += zip(self._costs(judged), errors, strict=True)

    def least_error(self, cost: float) -> float:
        """The least error on few images of measured candidates of at most this cost, or infinity."""
        return min((error for known, error in self._measured if known <= cost), default=math.inf)

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
        if ON_FEW in stored.get(PROXIES, {}):
            yield Observation(counts, batch, stored[PROXIES][ON_FEW], on_few=True)
        for tried in stored.get(TRIED, []):
            if tried[ON_FEW] is not None:
                yield Observation(np.array(tried["counts"]), tried["batch"], tried[ON_FEW], on_few=True)
