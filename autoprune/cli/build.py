"""`autoprune build`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli.choosing import By, Ranking, as_searched, choose, requests
from autoprune.cli.completing import complete_reconstructions
from autoprune.cli.options import Device, Json, Quiet, Storage, Study, Trial, read_study
from autoprune.cli.output import milliseconds, print_json, working
from autoprune.cli.progress import make_progress
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from autoprune.searching.front import Point
    from autoprune.searching.metric_scale import MetricScale

Out = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Folder for weights.safetensors and plan.json.", show_default=False),
]
Macs = Annotated[
    list[float] | None,
    typer.Option(
        metavar="R", help="MACs at most: up to 1 a fraction of dense, above absolute; can be repeated."
    ),
]
Params = Annotated[
    list[float] | None,
    typer.Option(metavar="R", help="Parameters at most, likewise; can be repeated."),
]
LatencyMs = Annotated[
    list[float] | None,
    typer.Option(
        metavar="MS", help="Milliseconds at most, measured median and spread together; can be repeated."
    ),
]
Reconstruct = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Restore the weights in another way than the study's, such as casm; see autoprune methods.",
        autocompletion=complete_reconstructions,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="OPTION=VALUE", help="Option of --reconstruct; can be repeated."),
]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")]


def build(
    study: Study,
    out: Out,
    macs: Macs = None,
    params: Params = None,
    latency_ms: LatencyMs = None,
    trial: Trial = None,
    by: By = Ranking.ACCURACY,
    reconstruct: Reconstruct = None,
    set_: Set = None,
    force: Force = False,
    storage: Storage = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Build the most accurate network within a budget, and save it.

    --macs, --params and --latency-ms may stand together. One of them given several times builds a network
    for each, in folders of their own: pruned/macs-0.7, pruned/macs-0.5. --reconstruct casm trains small
    models on feature maps of the dense network (no labels) before saving: slower, and more accurate. To
    load it without the command line, give autoprune.plan.load a fresh instance of the model's class and
    the folder.

    Example: autoprune build studies/digits.toml --macs 0.5 --out pruned/
    """
    from autoprune.plan import check_output, make_plan, save_plan
    from autoprune.searching.study import read_front
    from autoprune.session import Session
    from autoprune.storing.storages import open_storage

    config = read_study(study, storage=storage)
    wanted = requests({"macs": macs, "params": params, "latency_ms": latency_ms}, trial)
    options = check_reconstruction(reconstruct, set_ or [])
    single = len(wanted) == 1
    places = {out if single else out / name: bounds for name, bounds in wanted.items()}
    for place in places:
        check_output(place, force=force)
    # From storage alone, so that a budget out of reach is known before the model is loaded.
    front = read_front(config.storage, config.name)
    chosen = {place: choose(front, bounds, trial, by) for place, bounds in places.items()}
    how = {"method": reconstruct, "options": options} if reconstruct else {}
    with working():
        opened = open_storage(config.storage, create=False)
        config = as_searched(config, front)
        session = Session.open(config, device=device, progress=make_progress(quiet), storage=opened)
        for place, known in chosen.items():
            point = session.front().of_trial(known.trial)
            if reconstruct is None:
                network = session.build(point)
            else:
                network, point = session.rebuild(point, reconstruct, options)
            plan = make_plan(session.model, session.graph, point, study=config.name, reconstruction=how)
            save_plan(place, network, plan, force=force)
            chosen[place] = point
    if json:
        built = [summary(point, config.name, place) for place, point in chosen.items()]
        print_json(built[0] if single else {"study": config.name, "out": str(out), "built": built})
    else:
        metric = session.metric
        typer.echo("\n".join(sentence(point, place, metric) for place, point in chosen.items()))


def check_reconstruction(name: str | None, settings: list[str]) -> dict[str, Any]:
    """Options of --reconstruct; ConfigError for what no reconstruction knows."""
    from autoprune.components import create
    from autoprune.reconstruction import reconstructions

    if name is None:
        if settings:
            raise ConfigError("--set gives options to --reconstruct NAME; name one.")
        return {}
    options = dict(read_option(text) for text in settings)
    create(reconstructions, name, options)
    return options


def read_option(text: str) -> tuple[str, Any]:
    """OPTION=VALUE, the value as in a study file; a bare word is text."""
    name, found, value = text.partition("=")
    if not found or not name.strip():
        raise ConfigError(f"--set wants OPTION=VALUE such as steps=500, got '{text}'.")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def summary(point: Point, study: str, out: Path) -> dict[str, Any]:
    return {"study": study, "out": str(out), **point.to_json()}


def sentence(point: Point, out: Path, metric: MetricScale) -> str:
    timed = "" if point.latency_ms is None else f", {milliseconds(point)}"
    return (
        f"{out}: trial {point.trial}, {metric.name} {metric.shown(point.accuracy)} on the validation split, "
        f"{point.macs:,} MACs ({point.macs_ratio:.1%} of dense), "
        f"{point.params:,} parameters ({point.params_ratio:.1%} of dense){timed}"
    )
