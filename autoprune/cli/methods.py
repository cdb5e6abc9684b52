"""`autoprune methods`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from autoprune.cli.completing import complete_kinds
from autoprune.cli.options import Json
from autoprune.cli.output import print_json, print_tables

Kind = Annotated[
    str | None,
    typer.Argument(
        metavar="[KIND]",
        help="criterion, strategy, reconstruction, recovery, metric or loss; all by default.",
        autocompletion=complete_kinds,
    ),
]


def methods(kind: Kind = None, json: Json = False) -> None:
    """List what a study file can select by name, with options and sources.

    Example: autoprune methods criterion
    """
    from rich.markup import escape
    from rich.table import Table

    from autoprune.methods import methods as known

    found = known(kind)
    if json:
        print_json([asdict(method) for method in found])
        return
    for title in dict.fromkeys(method.kind for method in found):
        table = Table(title=title, title_justify="left", pad_edge=False)
        for column in ("name", "what it does", "options", "source"):
            table.add_column(column, overflow="fold")
        for method in (method for method in found if method.kind == title):
            options = ", ".join(f"{name}={default}" for name, default in method.options.items())
            # Brackets name sections of the study file; they are no markup.
            table.add_row(*map(escape, (method.name, method.summary, options, method.citation)))
        print_tables(table)
