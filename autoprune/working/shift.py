"""Workers from their start to their end: watched, told to stop, and started again when one dies."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from joblib import Parallel, delayed, parallel_config
from optuna import Study

from autoprune.errors import AutopruneError, StudyError
from autoprune.progress import Progress, Stage
from autoprune.searching.running import show_finished
from autoprune.storing.stopping import StopRequests, request_stop
from autoprune.working.interruption import shielded
from autoprune.working.place import Open, Place
from autoprune.working.worker import work

POLL = 1.0
"""Seconds between two looks at the study."""
RESTARTS = 3
"""Starts in a row, each after a worker died, that may bring no finished trial."""


@dataclass(kw_only=True)
class Shift:
    """One search by several workers. `orders` are arguments of `work` that are the same for all."""

    study: Study
    orders: Mapping[str, Any]
    total: int
    progress: Progress
    stop: Callable[[], bool]
    since: int | None = None
    """Requests to stop that there were when the search began to be prepared."""
    _shown: int = field(default=0, init=False)

    def run(self, opened: Open, workers: int, address: str | None, device: str | None) -> None:
        """Until the study has `total` finished trials, or workers end for another reason.

        Raises what a worker raised, and StudyError when workers die and nothing gets finished.
        """
        with ExitStack() as stack:
            with shielded():
                place = stack.enter_context(opened(workers, address, device))
            stage = stack.enter_context(self.progress.stage("search", self.total))
            self._show(stage)
            self._until_done(place, workers, stage)

    def _until_done(self, place: Place, workers: int, stage: Stage) -> None:
        fruitless = 0
        while True:
            before = self._shown
            death = self._round(place, workers, stage)
            if death is None or self.stop() or self._shown >= self.total:
                return
            fruitless = fruitless + 1 if self._shown == before else 0
            if fruitless > RESTARTS:
                raise StudyError(
                    f"workers died {fruitless} times in a row and finished no trial ({death}); look for what "
                    "kills them (memory is the usual cause), or use fewer --workers."
                )
            self.progress.message(
                f"a worker died ({death}); its trial is repeated, the workers are started again"
            )

    def _round(self, place: Place, workers: int, stage: Stage) -> str | None:
        """Workers until all have ended; how one of them died, if it did."""
        name, stopping = uuid.uuid4().hex, False
        # Workers that are still starting would miss a request that goes to all.
        requests = StopRequests(self.study, since=self.since)
        hands = _Hands(place, [{**self.orders, "run": name, "index": i} for i in range(workers)])
        with shielded():
            hands.start()
        try:
            while hands.is_alive():
                hands.join(POLL)
                self._show(stage)
                if not stopping and (self.stop() or requests.asked()):
                    request_stop(self.study, name)
                    stopping = True
        except BaseException:
            # Those on other hosts are out of reach of a signal.
            request_stop(self.study, name)
            raise
        return hands.outcome(place.deaths)

    def _show(self, stage: Stage) -> None:
        self._shown = show_finished(self.study, stage, self._shown)


class _Hands(threading.Thread):
    """Waits for joblib, so that the main thread can look at the study and at signals meanwhile."""

    def __init__(self, place: Place, orders: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(name="workers", daemon=True)
        self._place, self._orders = place, orders
        self._errors: list[AutopruneError | None] = []
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._errors = self._work()
        except BaseException as failure:
            self._failure = failure

    def _work(self) -> list[AutopruneError | None]:
        place = self._place
        same = {"device": place.device, "threads": place.threads, "parent": place.parent}
        with parallel_config(**place.options):
            # joblib computes a single task in this very process.
            pool = Parallel(n_jobs=max(2, len(self._orders)), batch_size=1, pre_dispatch="all")
            errors: list[AutopruneError | None] = pool(
                delayed(work)(**order, **same) for order in self._orders
            )
        return errors

    def outcome(self, deaths: tuple[type[BaseException], ...]) -> str | None:
        """How a worker died, if one did. Raises what a worker raised otherwise."""
        if isinstance(self._failure, deaths):
            return type(self._failure).__name__
        if self._failure is not None:
            raise self._failure
        for error in self._errors:
            if error is not None:
                raise error
        return None
