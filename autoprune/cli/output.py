"""Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from autoprune.searching.front import Dense, Point

PIPE_WIDTH = 200
"""Columns of a table that no terminal bounds, so that a redirected table is not cut."""


@contextmanager
def working() -> Iterator[None]:
    """What a user's factory or dataset prints goes to stderr, so that stdout holds results only."""
    with redirect_stdout(sys.stderr):
        yield


def print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def width() -> int:
    """Columns of a table on stdout at most."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH


def print_tables(*tables: RenderableType) -> None:
    console = Console(width=width(), highlight=False)
    for table in tables:
        console.print(table)


def printable(text: str) -> str:
    """Without what a terminal would obey: names in a storage may come from others."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def milliseconds(of: Dense | Point) -> str:
    """A measured latency with its spread; empty where there is none."""
    return "" if of.latency_ms is None else f"{of.latency_ms:.2f} ms (spread {of.latency_spread_ms or 0:.2f})"


def percent(share: float) -> str:
    return f"{share:.2%}".replace("%", " %")
