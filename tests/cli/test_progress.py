from __future__ import annotations

import io

import pytest
from rich.console import Console

from autoprune.cli.progress import RichProgress, make_progress


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=120, _environ={"TERM": "xterm"}), text


def test_bars_show_title_count_and_note_on_a_terminal() -> None:
    screen, text = console(terminal=True)
    progress = RichProgress(screen)
    with progress.stage("search [bold]", 3) as outer:
        outer.advance(2, "best 90.0 % [at] half")
        with progress.stage("inner", 1) as inner:
            inner.advance()
    shown = text.getvalue()
    wanted = ("search [bold]", "2/3", "best 90.0 % [at] half", "inner")
    assert all(part in shown for part in wanted)
    with progress.stage("again", 1):
        pass
    assert "again" in text.getvalue()


def test_without_a_terminal_only_messages_appear() -> None:
    screen, text = console(terminal=False)
    progress = RichProgress(screen)
    with progress.stage("search", 3) as stage:
        stage.advance(note="note")
    progress.message("group [0] is frozen")
    assert text.getvalue() == "group [0] is frozen\n"


def test_an_error_ends_the_bars() -> None:
    screen, _ = console(terminal=True)
    progress = RichProgress(screen)
    with pytest.raises(KeyboardInterrupt), progress.stage("search", 3):
        raise KeyboardInterrupt
    with progress.stage("again", 1) as stage:
        stage.advance()


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    make_progress(quiet=True).message("hidden")
    make_progress(quiet=False).message("shown")
    assert capsys.readouterr() == ("", "shown\n")
