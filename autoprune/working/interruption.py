"""Ctrl-C: once lets the running trial finish, twice stops now."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

MESSAGE = "finishing the running trial; press Ctrl-C again to stop now"


class Interruption:
    """Whether the user has interrupted."""

    def __init__(self) -> None:
        self._asked = False

    def asked(self) -> bool:
        return self._asked

    def ask(self) -> None:
        self._asked = True


@contextmanager
def interruption(say: Callable[[str], None]) -> Iterator[Interruption]:
    """Within the block the first SIGINT, or SIGTERM, only sets the flag; the second raises KeyboardInterrupt.

    A terminal sends the one, schedulers and containers the other.
    `say` gets the message for the user. Outside the main thread, where Python has no handlers, nothing
    changes.
    """
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if found.asked():
            raise KeyboardInterrupt
        found.ask()
        # In a thread of its own: the interrupted code may hold the locks that writing needs.
        _thread.start_new_thread(say, (MESSAGE,))

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Threads and processes that start within the block never see SIGINT.

    A terminal sends it to the whole process group, but whether workers finish or stop is the parent's word.
    """
    # Its first start would unblock the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
