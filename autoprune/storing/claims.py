"""Claims: one worker makes what all workers of a study need, the others see its claim and wait.

A claim is an attribute of the study that names a worker and changes while it works. The last one to write
it wins. Two may both win by a hair, so what is made under a claim must be the same whoever makes it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from optuna import Study
from optuna.exceptions import OptunaError
from optuna.storages import InMemoryStorage

from autoprune.errors import StudyError
from autoprune.storing.pulses import has_pulses
from autoprune.storing.workers import is_gone, lives_here, new_worker

CLAIM = ".claim"
"""Suffix: the claim beside the attribute that it is about."""
BEAT = 3.0
"""Seconds between two changes of a claim."""
GRACE = 30.0
"""Seconds without a change after which a claim is void, on the clock of the one who waits."""
PAUSE = 0.1
"""Seconds after which a claim is read back: who wrote at the same time has then been seen."""
POLL = 0.5
"""Seconds between two looks of one who waits."""

_log = logging.getLogger(__name__)
_TROUBLE = (OptunaError, StudyError, RuntimeError, OSError)


class Claims:
    """The claims of one study. `say` tells the user, once per worker, that its work is awaited."""

    def __init__(
        self,
        study: Study,
        say: Callable[[str], None],
        *,
        beat: float = BEAT,
        grace: float = GRACE,
        poll: float = POLL,
    ) -> None:
        self.study, self.say, self.beat, self.grace, self.poll = study, say, beat, grace, poll

    @contextmanager
    def turn(self, name: str, what: str, done: Callable[[], bool]) -> Iterator[bool]:
        """Wait for one's turn to make the attribute `name`: True within the block, or False once `done()`.

        `what` it is stands in messages.
        """
        with new_worker() as worker:
            if not self._claimed(name, worker, what, done):
                yield False
                return
            with self._renewed(name, worker):
                yield True

    def _claimed(self, name: str, worker: str, what: str, done: Callable[[], bool]) -> bool:
        watch, awaited = _Watch(self.study, self.grace), set()
        while not done():
            holder = watch.holder(self._claim(name))
            if holder is None:
                self._write(name, worker, 0)
                # Nobody else works in memory.
                time.sleep(0.0 if isinstance(self.study._storage, InMemoryStorage) else PAUSE)
                if _worker_of(self._claim(name)) == worker:
                    return True
                continue
            if holder not in awaited:
                awaited.add(holder)
                self.say(f"waiting for {what}: worker {holder} makes it for all")
            time.sleep(self.poll)
        return False

    @contextmanager
    def _renewed(self, name: str, worker: str) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._renew, args=(name, worker, over), daemon=True)
        if has_pulses(self.study._storage):
            thread.start()
        try:
            yield
        finally:
            over.set()
            if thread.ident is not None:
                thread.join()
            self._release(name, worker)

    def _renew(self, name: str, worker: str, over: threading.Event) -> None:
        beat = 0
        while not over.wait(self.beat):
            beat += 1
            try:
                self._write(name, worker, beat)
            except _TROUBLE as error:
                # At worst somebody makes the same a second time.
                _log.debug("the claim of %s could not be renewed: %s", name, error)

    def _release(self, name: str, worker: str) -> None:
        try:
            if _worker_of(self._claim(name)) == worker:
                self.study.set_user_attr(name + CLAIM, {})
        except _TROUBLE as error:
            _log.debug("the claim of %s could not be given back: %s", name, error)

    def _claim(self, name: str) -> Any:
        return self.study.user_attrs.get(name + CLAIM)

    def _write(self, name: str, worker: str, beat: int) -> None:
        self.study.set_user_attr(name + CLAIM, {"worker": worker, "beat": beat})


class _Watch:
    """Whether the holder of a claim still works."""

    def __init__(self, study: Study, grace: float) -> None:
        self._renewable, self.grace = has_pulses(study._storage), grace
        self._last: Any = None
        self._since = 0.0

    def holder(self, claim: Any) -> str | None:
        """The worker that the claim is of, None where it is nobody's or void."""
        worker = _worker_of(claim)
        if worker is None or is_gone(worker):
            return None
        if claim != self._last:
            self._last, self._since = claim, time.monotonic()
        known = not self._renewable and lives_here(worker)
        return worker if known or time.monotonic() - self._since < self.grace else None


def _worker_of(claim: Any) -> str | None:
    worker = claim.get("worker") if isinstance(claim, Mapping) else None
    return worker if isinstance(worker, str) else None
