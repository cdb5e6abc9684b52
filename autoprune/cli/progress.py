"""Bars on a terminal, on stderr: how far, how long still, and the best point so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from autoprune.progress import Progress, Silent, Stage


def make_progress(quiet: bool) -> Progress:
    """What a command reports to; with `quiet`, nothing."""
    return Silent() if quiet else RichProgress()


class RichProgress:
    """Stages as bars; a stage within a stage is a bar below it. Without a terminal only messages appear."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars: Bars | None = None

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Stage]:
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            with Silent().stage(title, total) as silent:
                yield silent
        elif self._bars is not None:
            with _bar(self._bars, title, total) as bar:
                yield bar
        else:
            with self._first_stage() as bars, _bar(bars, title, total) as bar:
                yield bar

    def message(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _first_stage(self) -> Iterator[Bars]:
        with Bars(*_columns(), console=self._console) as bars:
            self._bars = bars
            try:
                yield bars
            finally:
                self._bars = None


class _Bar:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        if note is None:
            self._bars.update(self._task, advance=steps)
        else:
            self._bars.update(self._task, advance=steps, note=note)


@contextmanager
def _bar(bars: Bars, title: str, total: int) -> Iterator[Stage]:
    task = bars.add_task(title, total=total, note="")
    try:
        yield _Bar(bars, task)
    finally:
        # Stopped, or the clock of an interrupted stage would run on.
        bars.stop_task(task)


def _columns() -> list[ProgressColumn]:
    # Titles and notes hold names of layers, and brackets in them are no markup.
    return [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    ]
