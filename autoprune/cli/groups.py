"""`autoprune groups`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from autoprune.cli.options import Device, Json, Quiet, Storage, read_study
from autoprune.cli.output import print_json, print_tables, working
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from autoprune.survey import Survey

OptionalStudy = Annotated[
    Path | None, typer.Argument(metavar="STUDY", help="Study file (TOML).", show_default=False)
]
Factory = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="Import path of a function that returns the network, in place of a study.",
        show_default=False,
    ),
]
InputSize = Annotated[
    str | None,
    typer.Option(
        metavar="C H W",
        help="Size of one input without the batch, as 3 224 224 or 3,224,224.",
        show_default=False,
    ),
]
Check = Annotated[bool, typer.Option("--check", help="Check every group alone too, not only all together.")]


class GroupsCommand(TyperCommand):
    """Lets --input-size take any number of values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return list(super().parse_args(ctx, join_sizes(args)))


def groups(
    study: OptionalStudy = None,
    factory: Factory = None,
    input_size: InputSize = None,
    check: Check = False,
    storage: Storage = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which channels can go, which are frozen and why, and the least MACs reachable.

    Weights and storage are not read. Least reachable means every group at the study's floor (min_kept).

    Example: autoprune groups --factory torchvision.models:resnet18 --input-size 3 224 224
    """
    with working():
        found = _survey(study, factory, input_size, device, check)
    if json:
        print_json(found.to_json())
    else:
        from autoprune.cli.tables import frozen_table, groups_table

        print_tables(groups_table(found), *([frozen_table(found)] if found.graph.frozen else []))


def _survey(
    study: Path | None, factory: str | None, input_size: str | None, device: str | None, check: bool
) -> Survey:
    from autoprune.survey import survey_factory, survey_study

    size = parse_size(input_size) if input_size is not None else None
    if study is not None and factory is None:
        return survey_study(read_study(study), size, device=device, exhaustive=check)
    if factory is None or study is not None:
        raise ConfigError("groups needs either a study file or --factory MODULE:FUNCTION with --input-size.")
    if size is None:
        raise ConfigError("--factory needs --input-size, for instance --input-size 3 224 224.")
    return survey_factory(factory, size, device=device, exhaustive=check)


def parse_size(text: str) -> list[int]:
    """ "3,224,224" -> [3, 224, 224]."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--input-size must be numbers such as 3 224 224, got '{text}'.") from None


def join_sizes(args: list[str]) -> list[str]:
    """`--input-size 3 224 224` -> `--input-size 3,224,224`; everything else stays as it is."""
    joined: list[str] = []
    for arg in args:
        started = bool(joined) and (
            joined[-1].startswith("--input-size=") or joined[-2:-1] == ["--input-size"]
        )
        if started and arg.isdigit():
            joined[-1] += f",{arg}"
        else:
            joined.append(arg)
    return joined
