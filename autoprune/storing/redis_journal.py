"""The journal on a Redis server, with the keys of Optuna's JournalRedisBackend, so that its tools read it.

Three things differ. A record is appended exactly once, however often the connection breaks: the server
remembers the number of each writer's last record. A server that lost records is noticed. And there are no
snapshots, which Optuna would unpickle: whoever can write to the server could run code in every worker.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from optuna.storages.journal import BaseJournalBackend

from autoprune.errors import StudyError
from autoprune.storing.patience import Patience

TIMEOUT = 30.0
"""Seconds until a server that does not answer counts as away."""
BATCH = 500
"""Records that are read at once."""
MEMORY = 24 * 3600
"""Seconds for which the server remembers a writer that is silent: much longer than any patience."""
_NUMBER = ":log_number"
_APPEND = """
local last = tonumber(redis.call('get', KEYS[1]) or '-1')
if last + 1 < tonumber(ARGV[1]) then return -1 end
local before = tonumber(redis.call('get', KEYS[2]) or '-1')
if before >= tonumber(ARGV[2]) then return last end
for i = 4, #ARGV do
    last = last + 1
    redis.call('set', ':log:' .. string.format('%d', last), ARGV[i])
end
redis.call('set', KEYS[1], string.format('%d', last))
redis.call('set', KEYS[2], ARGV[2], 'EX', ARGV[3])
return last
"""
"""Arguments: records that were seen, number of this append, seconds to remember it, the records.

Redis runs a script as a whole or not at all, and repeats none.
"""

T = TypeVar("T")


class JournalRedis(BaseJournalBackend):
    """Journal in the Redis database at `url`. Raises ImportError without redis, redis errors when refused."""

    def __init__(self, url: str, patience: Patience) -> None:
        self.url, self.patience = url, patience
        self._connect()
        # The first connection is not waited for: an address may simply be wrong.
        self._client.ping()

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "patience": self.patience}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.url, self.patience = state["url"], state["patience"]
        self._connect()

    def _connect(self) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._client: Any = redis.Redis.from_url(
            self.url,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT / 3,
            socket_keepalive=True,
            health_check_interval=60,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = self._client.register_script(_APPEND)
        self._writer = uuid.uuid4().hex
        self._appends = self._seen = 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Records from this number on."""
        found = self._patiently(lambda: self._client.get(_NUMBER))
        count = 0 if found is None else int(found) + 1
        if count < max(log_number_from, self._seen):
            raise self._lost()
        self._seen = count
        for start in range(log_number_from, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            keys = [f":log:{number}" for number in numbers]
            # The loop variable is read at once.
            records = self._patiently(lambda keys=keys: self._client.mget(keys))  # type: ignore[misc]
            for number, record in zip(numbers, records, strict=True):
                yield self._parsed(number, record)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records, each exactly once."""
        self._appends += 1
        # A forked process inherits the name, so its number is part of it.
        keys = [_NUMBER, f":writer:{self._writer}-{os.getpid()}"]
        arguments: list[Any] = [self._seen, self._appends, MEMORY, *(json.dumps(log) for log in logs)]
        if self._patiently(lambda: self._script(keys=keys, args=arguments)) < 0:
            raise self._lost()

    def _patiently(self, action: Callable[[], T]) -> T:
        from redis.exceptions import RedisError

        try:
            return self.patience.run(lambda again: action())
        except RedisError as error:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise StudyError(
                f"storage '{self.patience.place}' cannot be used: {text}; the server is full, read-only or "
                "set up for something else."
            ) from error

    def _parsed(self, number: int, content: bytes | None) -> dict[str, Any]:
        if content is None:
            raise self._lost()
        try:
            record = json.loads(content)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and isinstance(record.get("op_code"), int):
            return record
        raise StudyError(
            f"storage '{self.patience.place}' is damaged: key ':log:{number}' is no record of a journal."
        )

    def _lost(self) -> StudyError:
        return StudyError(
            f"storage '{self.patience.place}' has lost records of the study: the Redis server was emptied, "
            "or restarted without its data, or drops keys when it is full. Restore its data and set "
            "'appendonly yes' and 'maxmemory-policy noeviction'."
        )
