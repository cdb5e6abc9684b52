"""Strategy of HBFP: prune a share of every group, train, and go on while the accuracy holds.

Basha et al., Neurocomputing 2024 (arXiv 2102.00160).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from optuna import Study
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from autoprune.searching.attributes import WIDTHS
from autoprune.searching.parameters import Parameters, to_parameters
from autoprune.searching.strategies.base import Strategy, strategies
from autoprune.searching.strategies.proposing import Proposer

Percent = Annotated[float, Field(gt=0, lt=100)]


@strategies.register("history")
@dataclass(frozen=True, kw_only=True)
class HistoryStrategy(Strategy):
    """Takes M percent of every group's present channels an iteration, each from the one before.

    `share` is M; a list says it per iteration, and its last entry goes on: [50, 30]. A group of n channels
    loses `floor(n M / 100)`, as the paper counts pairs; widths that are not allowed (min_kept,
    multiple_of) are rounded up. Ends when the last accuracy fell more than `tolerance` below the dense
    one, or when no group can lose a channel. With recovery "history" this is HBFP; without a recovery it
    prunes by the criterion's order.
    """

    citation = "Basha et al., Neurocomputing 2024 (HBFP)"
    one_at_a_time: ClassVar[bool] = True
    continues: ClassVar[bool] = True

    share: Percent | Annotated[tuple[Percent, ...], Field(min_length=1)] = 10.0
    tolerance: Annotated[float, Field(ge=0)] = 0.02

    def warm_start(self) -> list[Parameters]:
        return []

    def sampler(self, finished: int) -> BaseSampler:
        return HistorySampler(self)

    def done(self, trials: Sequence[FrozenTrial]) -> bool:
        if not trials:
            return False
        fell = trials[-1].values[0] < self.problem.workshop.dense_accuracy - self.tolerance
        return fell or np.array_equal(self.next_widths(trials), self._widths(trials[-1]))

    def parent(self, trials: Sequence[FrozenTrial]) -> int | None:
        return trials[-1].number if trials else None

    def next_widths(self, trials: Sequence[FrozenTrial]) -> np.ndarray:
        """Widths (groups,) of the iteration that follows the finished `trials`."""
        space = self.problem.space
        now = self._widths(trials[-1]) if trials else space.dense
        gone = np.floor(now * self._percent(trials) / 100 + 1e-9).astype(int)
        pairs = zip(space.options, now - gone, now, strict=True)
        return np.array([_allowed(options, wanted, present) for options, wanted, present in pairs])

    def _percent(self, trials: Sequence[FrozenTrial]) -> float:
        if not isinstance(self.share, tuple):
            return self.share
        # By distinct widths: two workers may have done the same iteration.
        iteration = len({tuple(self._widths(trial)) for trial in trials})
        return self.share[min(iteration, len(self.share) - 1)]

    def _widths(self, trial: FrozenTrial) -> np.ndarray:
        widths: Mapping[str, int] = trial.user_attrs[WIDTHS]
        return np.array([widths[name] for name in self.problem.space.names])


class HistorySampler(Proposer):
    """The next iteration; the same for all workers."""

    def __init__(self, strategy: HistoryStrategy) -> None:
        super().__init__(strategy.problem)
        self.strategy = strategy

    def propose(self, study: Study, trial: FrozenTrial) -> Parameters:
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return to_parameters(self.problem.space, self.strategy.next_widths(trials), self.problem.batches[0])


def _allowed(options: np.ndarray, wanted: int, present: int) -> int:
    """The least allowed width that is not below `wanted`, nor above the `present` one."""
    fitting = options[(options >= wanted) & (options <= present)]
    return int(fitting[0]) if len(fitting) else present
