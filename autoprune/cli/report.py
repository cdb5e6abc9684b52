"""`autoprune report`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli.options import Json, Storage, Study, read_study
from autoprune.cli.output import print_json
from autoprune.config import StudyConfig

if TYPE_CHECKING:
    from autoprune.report import Content

Out = Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="HTML file to write.")]
FOLDERS = {"root", "train_root", "validation_root"}
"""Where images lie on this machine is nobody's business who reads the report."""


def report(study: Study, out: Out = Path("report.html"), storage: Storage = None, json: Json = False) -> None:
    """Write what the study found as one HTML page: the front, its plans, and how far to trust them.

    The page holds everything and asks no network for anything, so it can be sent and kept. Reads the
    storage only, also while a search runs: neither the model nor the data are needed.

    Example: autoprune report studies/digits.toml -o digits.html
    """
    content = write(study, config := read_study(study, storage=storage), out)
    trials, points = len(content.front.trials), len(content.front)
    if json:
        print_json({"study": config.name, "out": str(out), "trials": trials, "front": points})
    else:
        typer.echo(f"{out}: {points} points of {trials} finished trials, {out.stat().st_size / 1e6:.1f} MB")


def write(study: Path, config: StudyConfig, out: Path) -> Content:
    """The report of a study as its file and the command line have it; what it tells."""
    from autoprune.report import write_report
    from autoprune.storing.artifacts import open_artifacts

    return write_report(
        config.storage,
        config.name,
        out,
        artifacts=open_artifacts(config.artifacts, config.storage),
        study_file=shlex.quote(str(study)),
        data=data_of(config),
    )


def beside(storage: str, study: str) -> Path | None:
    """Where a search puts its report: beside the file that stores it, which may hold other studies too;
    nowhere for a server."""
    from autoprune.storing.artifacts import file_of

    file = file_of(storage)
    if file is None:
        return None
    own = file.stem if study == file.stem else f"{file.stem}.{re.sub(r'[^-.a-zA-Z0-9]', '_', study)}"
    return file.with_name(f"{own}.html")


def data_of(config: StudyConfig) -> dict[str, Any]:
    """Section [data] without folders, for the report."""
    return config.data.model_dump(mode="json", exclude=FOLDERS, exclude_none=True)
