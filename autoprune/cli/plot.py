"""`autoprune plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli.options import Cost, Json, Storage, Study, read_study
from autoprune.cli.output import print_json

Out = Annotated[
    Path, typer.Option("-o", "--out", metavar="FILE", help="Picture to write: .png, .svg or .pdf.")
]


def plot(
    study: Study,
    out: Out = Path("front.svg"),
    cost: Cost = None,
    storage: Storage = None,
    json: Json = False,
) -> None:
    """Draw the front for a paper: every trial, the front, the dense network and the budget.

    Reads the storage only. Needs the extra: pip install 'autoprune[plot]'.

    Example: autoprune plot studies/digits.toml -o front.svg
    """
    from autoprune.report.content import read_content
    from autoprune.report.plotting import check_picture, write_plot

    config = read_study(study, storage=storage)
    check_picture(out)
    content = read_content(config.storage, config.name)
    write_plot(content if cost is None else content.over(cost), out)
    if json:
        print_json({"study": config.name, "out": str(out)})
    else:
        typer.echo(f"{out}: the front of {config.name}")
