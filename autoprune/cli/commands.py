"""How every command ends: errors in one line with exit code 2, an interruption with 130."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from autoprune.config import mask_url
from autoprune.errors import AutopruneError

BAD_INPUT = 2
INTERRUPTED = 130


class Commands(TyperGroup):
    """The group of all commands."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AutopruneError as error:
            typer.echo(f"error: {one_line(error)}", err=True)
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            typer.echo(f"interrupted; {advice(ctx.invoked_subcommand)}", err=True)
            raise typer.Exit(INTERRUPTED) from None


def one_line(error: Exception) -> str:
    """The message without line breaks and passwords: a cause's text may hold either."""
    return mask_url(" ".join(line.strip() for line in str(error).splitlines()))


def advice(command: str | None) -> str:
    if command == "search":
        return "finished trials are kept, the same command continues the study"
    if command == "finetune":
        return "finished epochs are kept, the same command with --resume continues the training"
    return "run the same command again"
