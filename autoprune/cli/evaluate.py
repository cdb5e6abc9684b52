"""`autoprune evaluate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli.options import Device, Json, Quiet, Storage, Study, read_study
from autoprune.cli.output import print_json, working
from autoprune.cli.progress import make_progress

if TYPE_CHECKING:
    from autoprune.searching.metric_scale import MetricScale


class Split(StrEnum):
    VALIDATION = "validation"
    TEST = "test"


PlanFolder = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="DIR",
        help="Folder that 'autoprune build' wrote; without it, the dense network.",
        show_default=False,
    ),
]
SplitName = Annotated[
    Split, typer.Option(help="The search has seen validation; touch test once, for the final number.")
]


def evaluate(
    study: Study,
    plan: PlanFolder = None,
    split: SplitName = Split.VALIDATION,
    storage: Storage = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a saved network, or the dense one, on held-out images; MACs are counted anew.

    Example: autoprune evaluate studies/digits.toml --plan pruned/ --split test
    """
    from autoprune.evaluation import evaluate_saved
    from autoprune.plan import read_plan
    from autoprune.session import Session
    from autoprune.storing.storages import open_storage

    config = read_study(study, storage=storage)
    if plan is not None:
        read_plan(plan)
    with working():
        # No trial is read or written, so a storage need not exist.
        session = Session.open(
            config,
            device=device,
            progress=make_progress(quiet),
            storage=open_storage(None),
            searches=False,
        )
        result = evaluate_saved(session, plan, split.value).to_json()
    if json:
        print_json(result)
    else:
        typer.echo(sentence(result, session.metric))


def sentence(result: dict[str, Any], metric: MetricScale) -> str:
    return (
        f"{metric.name} {metric.shown(result['accuracy'])} on {result['images']:,} {result['split']} images, "
        f"{result['macs']:,} MACs, {result['params']:,} parameters"
    )
