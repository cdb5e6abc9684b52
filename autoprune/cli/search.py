"""`autoprune search`."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli.options import Device, Json, Quiet, Storage, Study, read_study
from autoprune.cli.output import print_json, print_tables, working
from autoprune.cli.progress import make_progress

Trials = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Trials of the study in all, in place of the file's; those already finished count.",
        show_default=False,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="SECONDS", help="Start no further trial after this time.", show_default=False
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Random seed, in place of the file's.", show_default=False)
]


def search(
    study: Study,
    trials: Trials = None,
    timeout: Timeout = None,
    seed: Seed = None,
    storage: Storage = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search the Pareto front of accuracy against cost, and print it.

    The same command again continues the study, also after an interruption: finished trials are kept.

    Example: autoprune search studies/digits.toml --trials 200
    """
    from autoprune.cli.tables import front_table
    from autoprune.session import Session

    config = read_study(study, storage=storage, trials=trials, seed=seed)
    with working():
        session = Session.open(config, device=device, progress=make_progress(quiet))
        front = session.search(timeout=timeout)
    if json:
        print_json(front.to_json())
    else:
        print_tables(front_table(front))
