"""`autoprune search`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli.completing import complete_backends
from autoprune.cli.options import Device, Json, Quiet, Storage, Study, read_study
from autoprune.cli.output import print_json, print_tables, working
from autoprune.cli.progress import make_progress
from autoprune.cli.report import beside, write
from autoprune.paths import check_file

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
Objective = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Cost that the front runs over, in place of the file's: macs, params or latency (measured).",
        show_default=False,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        "-w",
        min=1,
        metavar="N",
        help="Processes that search at the same time. They share the CPUs of this machine; where it has "
        "several CUDA devices, or with --device cuda, each takes the next one.",
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Where the workers run: loky (processes of this machine), dask or ray (a cluster; needs the "
        "extra of that name).",
        autocompletion=complete_backends,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="The cluster, as tcp://host:8786 for Dask or host:6379 for Ray; without it a cluster is started "
        "on this machine.",
        show_default=False,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="HTML report of the search, by default beside the storage where that is a file.",
        show_default=False,
    ),
]


def search(
    study: Study,
    trials: Trials = None,
    timeout: Timeout = None,
    seed: Seed = None,
    objective: Objective = None,
    workers: Workers = 1,
    backend: Backend = "loky",
    scheduler: Scheduler = None,
    report: Report = None,
    storage: Storage = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search the Pareto front of accuracy against cost, and print it.

    The same command again continues the study, also after an interruption: finished trials are kept.
    Ctrl-C lets the running trial finish, a second one stops at once. The same command on another host joins
    the search, if the storage is a server that both reach.

    Example: autoprune search studies/digits.toml --trials 200 --workers 4
    """
    from autoprune.cli.tables import front_table
    from autoprune.working import Crew, interruption

    config = read_study(study, storage=storage, trials=trials, seed=seed, objective=objective)
    page = report or beside(config.storage, config.name)
    if report is not None:
        check_file(report, "report", "--report")
    crew = Crew(config=config, workers=workers, backend=backend, scheduler=scheduler, device=device)
    progress = make_progress(quiet)
    end = None if timeout is None else time.time() + timeout
    with working():
        continue_to = crew.prepare(progress)
        with interruption(progress.message) as interrupted:
            front = continue_to(end, interrupted.asked)
    if json:
        print_json(front.to_json())
    else:
        print_tables(front_table(front))
    # Behind the front, which a report that cannot be written must not take along.
    if page is not None:
        write(study, config, page)
        progress.message(f"report: {page}")
    if interrupted.asked():
        raise KeyboardInterrupt
