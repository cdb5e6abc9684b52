"""Run one forward pass per chunk of images in lockstep, so that all meet at every layer.

Each chunk runs in a thread of its own, but only one thread runs at any moment, always in the same
order: results do not depend on timing, and the memory is that of the chunks' live activations. Chunks may
come late: one that is not counted at the first meetings starts when the meeting before its own is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import torch


class Lockstep:
    """`meet(index, combine, count)` waits until the first `count` chunks (all, if left out) have come so far.

    Counts may only rise from meeting to meeting. The turn goes from each chunk to the next and from the last
    of a meeting to the first one, so a late chunk waits at its turnstile, not yet begun, until a meeting that
    counts it; a chunk that is over passes it to the next of all chunks. No turn is ever lost, for a thread
    gives it away before it waits, and failed ones do so too.
    """

    def __init__(self, chunks: int) -> None:
        self._chunks = chunks
        # One turnstile per chunk: with a common condition every turn would wake all threads.
        self._turns = [threading.Semaphore(0) for _ in range(chunks)]
        self._failure: BaseException | None = None

    def run(self, chunk: Callable[[int], None]) -> None:
        """Call `chunk(index)` for every index; re-raises the first failure."""
        if self._chunks == 1:
            return chunk(0)
        self._failure = None
        self._turns = [threading.Semaphore(0) for _ in range(self._chunks)]
        futures = [self._threads.submit(self._thread, chunk, i) for i in range(self._chunks)]
        self._turns[0].release()
        for future in futures:
            future.result()
        if self._failure is not None:
            raise self._failure

    def meet(self, index: int, combine: Callable[[], None], count: int | None = None) -> None:
        """`combine` runs once, in the last chunk's thread, when all have come."""
        count = self._chunks if count is None else count
        if index == count - 1:
            combine()
        if self._chunks > 1:
            self._pass_on(index, count)
            self._wait(index)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        # New threads for every run would each leave memory behind in an arena of their own.
        return ThreadPoolExecutor(
            self._chunks,
            thread_name_prefix="lockstep",
            # OpenMP counts threads per thread: without it, each would use all cores whatever was set.
            initializer=torch.set_num_threads,
            initargs=(torch.get_num_threads(),),
        )

    def _thread(self, chunk: Callable[[int], None], index: int) -> None:
        try:
            self._wait(index)
            chunk(index)
        except _Abandoned:
            pass
        except BaseException as failure:
            self._failure = failure
        finally:
            self._pass_on(index, self._chunks)

    def _pass_on(self, index: int, count: int) -> None:
        self._turns[(index + 1) % count].release()

    def _wait(self, index: int) -> None:
        self._turns[index].acquire()
        if self._failure is not None:
            raise _Abandoned


class _Abandoned(Exception):
    """Another chunk failed; this one has nothing left to do."""
