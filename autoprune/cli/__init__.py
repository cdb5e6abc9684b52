"""The command line: it reads options, calls the library and prints; it decides nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli.build import build
from autoprune.cli.commands import Commands
from autoprune.cli.dashboard import dashboard
from autoprune.cli.evaluate import evaluate
from autoprune.cli.explain import explain
from autoprune.cli.export import export
from autoprune.cli.finetune import finetune
from autoprune.cli.front import front
from autoprune.cli.groups import GroupsCommand, groups
from autoprune.cli.methods import methods
from autoprune.cli.plot import plot
from autoprune.cli.report import report
from autoprune.cli.search import search
from autoprune.cli.stop import stop
from autoprune.cli.studies import studies

app = typer.Typer(
    name="autoprune",
    cls=Commands,
    help="Find out how many channels each layer of a trained network can lose.",
    epilog="Start with: autoprune search studies/digits.toml. The --help of each command has an example.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    from autoprune.versions import versions

    if wanted:
        typer.echo(f"autoprune {versions()['autoprune']}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
]


@app.callback()
def options(version: Version = False) -> None:
    pass


app.command()(search)
app.command()(front)
app.command()(explain)
app.command()(report)
app.command()(plot)
app.command()(studies)
app.command()(stop)
app.command()(dashboard)
app.command()(build)
app.command()(evaluate)
app.command()(finetune)
app.command()(export)
app.command(cls=GroupsCommand)(groups)
app.command()(methods)


def main() -> None:
    """Entry point of the `autoprune` command."""
    app()


__all__ = ["app", "main"]
