"""A database that is away for a while: workers wait with growing pauses, then go on where they were."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from optuna.storages import BaseStorage
from sqlalchemy import exc

from autoprune.errors import StudyError

LIMIT = 600.0
"""Seconds after which an outage is an error."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between two attempts: doubled from the first to the longest."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


def reason(error: BaseException) -> str | None:
    """What the connection suffers from, in one line; None for every other error."""
    seen: BaseException | None = error
    while seen is not None:
        if _is_trouble(seen):
            return (str(seen).strip() or type(seen).__name__).splitlines()[0][:200]
        # Optuna wraps what SQLAlchemy raises.
        seen = seen.__cause__
    return None


def _is_trouble(error: BaseException) -> bool:
    return _is_sql_trouble(error) or _is_redis_trouble(error) or _is_grpc_trouble(error)


def _is_sql_trouble(error: BaseException) -> bool:
    # Pending rollback: Optuna asks a second question over the connection that has just broken.
    kinds = (exc.OperationalError, exc.InterfaceError, exc.PendingRollbackError, exc.TimeoutError)
    return isinstance(error, kinds) or (isinstance(error, exc.DBAPIError) and error.connection_invalidated)


def _is_redis_trouble(error: BaseException) -> bool:
    try:
        from redis import exceptions as redis
    except ImportError:
        return False
    refused = (redis.AuthenticationError, redis.AuthorizationError)
    return isinstance(error, redis.ConnectionError | redis.TimeoutError) and not isinstance(error, refused)


def _is_grpc_trouble(error: BaseException) -> bool:
    try:
        import grpc
    except ImportError:
        return False
    # Cancelled: by a server that shuts down.
    codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
    return isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call) and error.code() in codes


class Patience:
    """Repeats what fails because the connection is in trouble; shared by all threads that use a storage.

    `place` names the storage, without its password. `say` hears one message per outage and one when it is
    over; by default they go to the log, which is stderr. `limit`, `first` and `longest` are seconds.
    """

    def __init__(
        self,
        place: str,
        *,
        limit: float = LIMIT,
        first: float = FIRST_PAUSE,
        longest: float = LONGEST_PAUSE,
        say: Callable[[str], None] = _log.warning,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.place, self.limit, self.first, self.longest = place, limit, first, longest
        self.say, self.clock, self.sleep = say, clock, sleep
        self.last_trouble: float | None = None
        """When the connection last failed, on `clock`."""
        self._since: float | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_lock": None, "_since": None, "last_trouble": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def run(self, action: Callable[[bool], T]) -> T:
        """The action's result; it is told whether it was tried before, and may then have been done already.

        Raises StudyError once the outage has lasted longer than the limit.
        """
        pause, again = self.first, False
        while True:
            try:
                result = action(again)
            except Exception as error:
                trouble = reason(error)
                if trouble is None:
                    self._over()
                    raise
                left = self._left(trouble)
                if left <= 0:
                    raise self._given_up(trouble) from error
            else:
                self._over()
                return result
            # Many workers wait for the same server: they must not all come back at once.
            self.sleep(min(left, pause * random.uniform(0.5, 1.0)))
            pause, again = min(2 * pause, self.longest), True

    def _left(self, trouble: str) -> float:
        """Seconds that are left to wait."""
        with self._lock:
            now = self.last_trouble = self.clock()
            begins = self._since is None
            self._since = since = now if self._since is None else self._since
        if begins and self.limit > 0:
            self.say(
                f"storage '{self.place}' is away ({trouble}); waiting up to {self.limit / 60:.0f} min for it."
            )
        return since + self.limit - now

    def _over(self) -> None:
        with self._lock:
            since, self._since = self._since, None
        if since is not None and self.limit > 0:
            self.say(f"storage '{self.place}' is back after {self.clock() - since:.0f} s.")

    def _given_up(self, trouble: str) -> StudyError:
        waited = f" for {self.limit:.0f} s" if self.limit > 0 else ""
        return StudyError(
            f"storage '{self.place}' does not work{waited}: {trouble}; look after it, then start the same "
            "command again: every finished trial is kept."
        )


def troubled(storage: BaseStorage, within: float) -> bool:
    """Whether this process lost the storage at any time in the last seconds.

    Then the signs of life of others may be missing because the storage was away, not because they are dead.
    """
    patience = getattr(storage, "patience", None) or getattr(
        getattr(storage, "_backend", None), "patience", None
    )
    if not isinstance(patience, Patience) or patience.last_trouble is None:
        return False
    return patience.clock() - patience.last_trouble < within
