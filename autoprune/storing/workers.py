"""Workers: their names, and whether the process behind a name still lives."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

_living: set[str] = set()
"""Workers of this process: several may run in threads of one."""


@contextmanager
def new_worker() -> Iterator[str]:
    """The name of a worker, `host/process/token`, which counts as alive within the block."""
    name = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
    _living.add(name)
    try:
        yield name
    finally:
        _living.discard(name)


def is_gone(name: str) -> bool:
    """Whether the worker is known to be dead; one on another host never is, from its name alone."""
    return _host(name) == socket.gethostname() and not lives_here(name)


def lives_here(name: str) -> bool:
    """Whether the worker runs on this host."""
    process = name.partition("/")[2].partition("/")[0]
    if _host(name) != socket.gethostname() or not process.isdigit():
        return False
    return name in _living if int(process) == os.getpid() else _exists(int(process))


def _host(name: str) -> str:
    return name.partition("/")[0]


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """A killed child that its parent has not yet collected still has a number, but does no work."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
