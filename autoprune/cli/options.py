"""Options that several commands share, and the study they select."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.config import StudyConfig, load_study, with_search
from autoprune.paths import expanded

Study = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (TOML).", show_default=False)]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|URL",
        help="Where the study is stored, in place of the file's: a journal file or an Optuna URL.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="No progress and no messages; results and errors only.")
]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Device to compute on: cpu, cuda, cuda:1, ...", show_default="cpu"),
]
Macs = Annotated[
    float | None,
    typer.Option(metavar="R", help="MACs at most: up to 1 a fraction of dense, above absolute."),
]
Params = Annotated[
    float | None,
    typer.Option(metavar="R", help="Parameters at most: up to 1 a fraction of dense, above absolute."),
]
LatencyMs = Annotated[
    float | None,
    typer.Option(metavar="MS", help="Milliseconds at most, measured median and spread together."),
]
Trial = Annotated[int | None, typer.Option(metavar="N", help="This trial, whatever it costs.")]
Cost = Annotated[
    str | None,
    typer.Option(
        "--cost",
        metavar="NAME",
        help="What the front runs over: macs, params or latency; the study's objective by default.",
        show_default=False,
    ),
]


def read_study(
    path: Path,
    *,
    storage: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    objective: str | None = None,
) -> StudyConfig:
    """The study file with what the command line overrides."""
    config = load_study(path)
    given = {"trials": trials, "seed": seed, "objective": objective}
    search = with_search(config, {name: value for name, value in given.items() if value is not None}).search
    place = config.storage if storage is None else expanded(storage)
    return config.model_copy(update={"search": search, "storage": place})
