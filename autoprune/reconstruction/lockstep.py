"""Run one forward pass per chunk of images in lockstep, so that all meet at every layer.

Each chunk runs in a thread of its own, but only one thread runs at any moment, always in the same
order: results do not depend on timing, and the memory is that of the chunks' live activations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any


class Lockstep:
    """`meet(index, value, combine)` waits until every chunk has given its value."""

    def __init__(self, chunks: int) -> None:
        self._chunks = chunks
        self._condition = threading.Condition()
        self._turn = 0
        self._values: list[Any] = [None] * chunks
        self._failure: BaseException | None = None

    def run(self, chunk: Callable[[int], None]) -> None:
        """Call `chunk(index)` for every index; re-raises the first failure."""
        if self._chunks == 1:
            return chunk(0)
        self._begin()
        for future in [self._threads.submit(self._thread, chunk, i) for i in range(self._chunks)]:
            future.result()
        if self._failure is not None:
            raise self._failure

    def meet(self, index: int, value: Any, combine: Callable[[list[Any]], Any]) -> None:
        """`combine` runs once, in the last chunk's thread, on the values in order of chunks."""
        self._values[index] = value
        if index == self._chunks - 1:
            values, self._values = self._values, [None] * self._chunks
            combine(values)
        if self._chunks > 1:
            self._pass_on(index)
            self._wait(index)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        # New threads for every run would each leave memory behind in an arena of their own.
        return ThreadPoolExecutor(self._chunks, thread_name_prefix="lockstep")

    def _begin(self) -> None:
        self._turn, self._failure = 0, None
        self._values = [None] * self._chunks

    def _thread(self, chunk: Callable[[int], None], index: int) -> None:
        try:
            self._wait(index)
            chunk(index)
        except _Abandoned:
            pass
        except BaseException as failure:
            self._failure = failure
        finally:
            self._pass_on(index)

    def _pass_on(self, index: int) -> None:
        with self._condition:
            self._turn = (index + 1) % self._chunks
            self._condition.notify_all()

    def _wait(self, index: int) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._turn == index or self._failure is not None)
        if self._failure is not None:
            raise _Abandoned


class _Abandoned(Exception):
    """Another chunk failed; this one has nothing left to do."""
