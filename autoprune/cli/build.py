"""`autoprune build`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli.completing import complete_reconstructions
from autoprune.cli.options import (
    Device,
    Json,
    Macs,
    Params,
    Quiet,
    Storage,
    Study,
    Trial,
    read_study,
)
from autoprune.cli.output import print_json, working
from autoprune.cli.progress import make_progress
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from autoprune.config import StudyConfig
    from autoprune.progress import Progress
    from autoprune.searching.front import Front, Point
    from autoprune.searching.metric_scale import MetricScale
    from autoprune.session import Session

Out = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Folder for weights.safetensors and plan.json.", show_default=False),
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
    trial: Trial = None,
    reconstruct: Reconstruct = None,
    set_: Set = None,
    force: Force = False,
    storage: Storage = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Build the most accurate network within a budget, and save it.

    --macs and --params may stand together. --reconstruct casm trains small models on feature maps of the
    dense network (no labels) before saving: slower, and more accurate. To load it without the command
    line, give autoprune.plan.load a fresh instance of the model's class and the folder.

    Example: autoprune build studies/digits.toml --macs 0.5 --out pruned/
    """
    from autoprune.plan import check_output, make_plan, save_plan

    config = read_study(study, storage=storage)
    check_request(macs, params, trial)
    options = check_reconstruction(reconstruct, set_ or [])
    check_output(out, force=force)
    with working():
        progress = make_progress(quiet)
        session, point = open_point(config, macs, params, trial, device=device, progress=progress)
        how = {"method": reconstruct, "options": options} if reconstruct else {}
        if reconstruct is None:
            network = session.build(point)
        else:
            network, point = session.rebuild(point, reconstruct, options)
        plan = make_plan(session.model, session.graph, point, study=config.name, reconstruction=how)
        save_plan(out, network, plan, force=force)
    if json:
        print_json(summary(point, config.name, out))
    else:
        typer.echo(sentence(point, out, session.metric))


def check_request(macs: float | None, params: float | None, trial: int | None) -> None:
    if macs is None and params is None and trial is None:
        raise ConfigError("build needs --macs R, --params R or --trial N, for instance --macs 0.5.")
    if trial is not None and (macs is not None or params is not None):
        raise ConfigError("--trial names one network; leave out --macs and --params.")


def check_reconstruction(name: str | None, settings: list[str]) -> dict[str, Any]:
    """Options of --reconstruct; ConfigError for what no reconstruction knows."""
    from autoprune.components import check_options
    from autoprune.reconstruction import reconstructions

    if name is None:
        if settings:
            raise ConfigError("--set gives options to --reconstruct NAME; name one.")
        return {}
    options = dict(read_option(text) for text in settings)
    check_options(reconstructions, name, options)
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


def open_point(
    config: StudyConfig,
    macs: float | None,
    params: float | None,
    trial: int | None,
    *,
    device: str | None,
    progress: Progress,
) -> tuple[Session, Point]:
    """The point that was asked for, in an open session that can build it."""
    from autoprune.searching.study import read_front
    from autoprune.session import Session
    from autoprune.storing.storages import open_storage

    # From storage alone, so that a budget out of reach is known before the model is loaded.
    wanted = choose(read_front(config.storage, config.name), macs, params, trial)
    opened = open_storage(config.storage, create=False)
    session = Session.open(config, device=device, progress=progress, storage=opened)
    return session, session.front().of_trial(wanted.trial)


def choose(front: Front, macs: float | None, params: float | None, trial: int | None) -> Point:
    return front.best(macs=macs, params=params) if trial is None else front.of_trial(trial)


def summary(point: Point, study: str, out: Path) -> dict[str, Any]:
    return {"study": study, "out": str(out), **point.to_json()}


def sentence(point: Point, out: Path, metric: MetricScale) -> str:
    return (
        f"{out}: trial {point.trial}, {metric.name} {metric.shown(point.accuracy)} on the validation split, "
        f"{point.macs:,} MACs ({point.macs_ratio:.1%} of dense), "
        f"{point.params:,} parameters ({point.params_ratio:.1%} of dense)"
    )
