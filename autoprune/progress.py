"""How long work reports that it goes on; the command line shows it, the library stays silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


class Stage(Protocol):
    """A running piece of work."""

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """`steps` more of the total are done; `note` replaces the text beside the bar."""


@runtime_checkable
class Progress(Protocol):
    """Shows stages of work, and messages between them."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Stage]:
        """Work of `total` steps; the stage ends when the context does."""

    def message(self, text: str) -> None:
        """One line for the user, on stderr."""


class _SilentStage:
    def advance(self, steps: int = 1, note: str | None = None) -> None:
        return None


class Silent:
    """Shows nothing: the library's default."""

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Stage]:
        yield _SilentStage()

    def message(self, text: str) -> None:
        return None
