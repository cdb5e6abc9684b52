"""The journal file: Optuna's format of one JSON record per line, for the workers of one host.

What Optuna's own backend leaves open is closed here. The kernel releases the lock of a killed process at
once, where Optuna waits 30 s for a dead holder. A record that a dying writer or a full disk left half
written is cut off before the next one is appended, for glued to it both would be unreadable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import BaseJournalBackend, JournalFileOpenLock
from optuna.storages.journal._file import get_lock_file
from pydantic_core import from_json

from autoprune.errors import StudyError

try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]

BEGINNING = b'{"op_code":'
"""First bytes of every record."""
_BLOCK = 64 * 1024


class JournalFile(BaseJournalBackend):
    """Journal of the file at `path`, which must exist.

    Every method raises StudyError when the file cannot be read or written, was deleted or replaced, or
    holds what is no record.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        # The next record to read, and where it begins: JournalStorage reads on from where it stopped.
        self._number = self._offset = 0
        with self._opened("rb") as file:
            self._identity = _identity(file)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Records from this number on."""
        for number, line in self._lines(log_number_from):
            yield self._parsed(line, number)

    def read_all_but(self, op_codes: Collection[int]) -> Iterator[dict[str, Any]]:
        """All records except those of some operations, which are passed over unread: a quick look."""
        passed_over = tuple(BEGINNING + f"{int(code)},".encode() for code in op_codes)
        for number, line in self._lines(0):
            if not line.startswith(passed_over):
                yield self._parsed(line, number)

    def _lines(self, log_number_from: int) -> Iterator[tuple[int, bytes]]:
        """Complete lines from this number on, with their numbers, which begin at 1."""
        with self._opened("rb") as file:
            # While the lock is held nobody is in the middle of a record, or about to cut one off; complete
            # lines before this size never change again, so they are read without it.
            with self._locked(file, exclusive=False):
                size = self._size(file)
            if log_number_from < self._number:
                self._number = self._offset = 0
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n") or self._offset + len(line) > size:
                    # Half a record: its writer is dead, or another one replaces it at this moment.
                    return
                self._number, self._offset = self._number + 1, self._offset + len(line)
                if self._number > log_number_from:
                    yield self._number, line

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records; once this returns they are on the disk, and when it raises none of them is."""
        content = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self._opened("r+b") as file, self._locked(file, exclusive=True):
            size, end = self._size(file), _end_of_records(file)
            try:
                if end < size:
                    file.truncate(end)
                _write(file, content)
            except BaseException as error:
                _cut(file, end)
                if isinstance(error, OSError):
                    raise self._unwritable(error) from error
                raise

    @contextmanager
    def _opened(self, mode: str) -> Iterator[BinaryIO]:
        try:
            # Never created here: a journal that was deleted must not come back empty.
            descriptor = os.open(self.path, os.O_RDONLY if mode == "rb" else os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            raise self._gone("deleted") from None
        except OSError as error:
            raise self._unwritable(error) from error
        with open(descriptor, mode, buffering=_BLOCK if mode == "rb" else 0) as file:
            yield file  # type: ignore[misc]

    @contextmanager
    def _locked(self, file: BinaryIO, exclusive: bool) -> Iterator[None]:
        if fcntl is None:  # pragma: no cover
            with get_lock_file(JournalFileOpenLock(str(self.path))) if exclusive else nullcontext():
                yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        except OSError as error:
            raise StudyError(
                f"storage '{self.path}' cannot be locked: {error.strerror}; a journal needs a file system "
                "with locks (flock): put it on a local disk, or use a database."
            ) from error
        try:
            yield
        finally:
            # Not left to closing: a process forked at this moment holds the same open file.
            fcntl.flock(file, fcntl.LOCK_UN)

    def _size(self, file: BinaryIO) -> int:
        """Bytes in the file, if it is still the one that was opened first."""
        if _identity(file) != self._identity or not self.path.exists():
            raise self._gone("replaced" if self.path.exists() else "deleted")
        size = os.fstat(file.fileno()).st_size
        if size < self._offset:
            raise self._gone("shortened")
        return size

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = _read(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and isinstance(record.get("op_code"), int):
            return record
        raise StudyError(
            f"storage '{self.path}' is damaged: line {number} is no record of a journal; restore "
            "the file from a copy, or remove this line: what it said is lost, the other lines stay valid."
        )

    def _gone(self, how: str) -> StudyError:
        return StudyError(
            f"storage '{self.path}' was {how} while the study is in use; restore it and start again."
        )

    def _unwritable(self, error: OSError) -> StudyError:
        return StudyError(
            f"storage '{self.path}' cannot be used: {error.strerror}; make room, or make the file readable "
            "and writable, and start again: it holds every trial that was finished."
        )


def _read(line: bytes) -> Any:
    try:
        # Twice as fast, and keeps the many names that are the same only once.
        return from_json(line)
    except ValueError:
        return json.loads(line)


def _identity(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def _end_of_records(file: BinaryIO) -> int:
    """Where the last complete line ends."""
    end, block = file.seek(0, os.SEEK_END), 1
    while end > 0:
        start = max(0, end - block)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end, block = start, _BLOCK
    return 0


def _write(file: BinaryIO, content: bytes) -> None:
    """Append all of it and wait for the disk. A full disk takes what fits and refuses the rest."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def _cut(file: BinaryIO, end: int) -> None:
    # Where that fails, the next writer does it.
    with suppress(OSError):
        file.truncate(end)
