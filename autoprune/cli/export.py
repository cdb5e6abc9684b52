"""`autoprune export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli.choosing import By, Ranking, as_searched, choose
from autoprune.cli.options import (
    Device,
    Json,
    LatencyMs,
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
    from torch import nn

    from autoprune.cli.choosing import Bounds
    from autoprune.config import StudyConfig
    from autoprune.exporting import Exported
    from autoprune.progress import Progress
    from autoprune.session import Session

DYNAMIC = "dynamic"
COSTS = ("trial", "macs", "macs_ratio", "params", "params_ratio")


class To(StrEnum):
    ONNX = "onnx"
    PT2 = "pt2"
    STATE_DICT = "state-dict"


Target = Annotated[To, typer.Option("--to", help="Kind of file.", show_default=False)]
File = Annotated[
    Path, typer.Option("-o", "--out", metavar="FILE", help="File to write.", show_default=False)
]
PlanFolder = Annotated[
    Path | None,
    typer.Option(
        "--plan", metavar="DIR", help="A network that 'build' or 'finetune' saved.", show_default=False
    ),
]
Batch = Annotated[
    str, typer.Option(metavar="dynamic|N", help="Leave the batch size free, or fix it to N.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]


def export(
    study: Study,
    to: Target,
    out: File,
    macs: Macs = None,
    params: Params = None,
    latency_ms: LatencyMs = None,
    trial: Trial = None,
    by: By = Ranking.ACCURACY,
    plan: PlanFolder = None,
    batch: Batch = DYNAMIC,
    force: Force = False,
    storage: Storage = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a pruned network as one file for other runtimes, and check it against PyTorch.

    Which network: the most accurate one within --macs, --params, --latency-ms, a --trial,
    or what 'autoprune build' or 'finetune' saved in --plan DIR.

    --to onnx: for ONNX Runtime and most accelerators; needs
    pip install 'autoprune\\[onnx]'.
    --to pt2: for torch.export.load; needs neither autoprune nor the model's class.
    --to state-dict: tensors alone (safetensors), for code that builds the small
    network itself and calls safetensors.torch.load_model. For autoprune.load,
    which needs the model's class only, use 'autoprune build'.

    The file is read back and run on calibration images in batches of 1 and 8. If
    it does not agree with PyTorch, nothing is written. Relative differences
    allowed: 1e-4 for onnx, in ONNX Runtime; 1e-6 for the others.

    Example: autoprune export studies/digits.toml --macs 0.5 --to onnx -o digits.onnx
    """
    from autoprune.exporting import check_export, export

    config = read_study(study, storage=storage)
    given = {"macs": macs, "params": params, "latency_ms": latency_ms}
    bounds = {name: value for name, value in given.items() if value is not None}
    check_choice(bounds, trial, plan, by)
    size = read_batch(batch)
    check_export(out, to.value, batch=size, force=force)
    with working():
        if plan is None:
            session, network, facts = from_study(
                config, bounds, trial, by, device=device, progress=make_progress(quiet)
            )
        else:
            session, network, facts = from_plan(config, plan, device=device, progress=make_progress(quiet))
        examples = example_inputs(session)
        exported = export(network, examples, out, to.value, batch=size, force=force)
    if json:
        print_json({"study": config.name, **exported.to_json(), **facts})
    else:
        typer.echo(sentence(exported, facts))


def check_choice(bounds: Bounds, trial: int | None, plan: Path | None, by: Ranking) -> None:
    ways = [bool(bounds), trial is not None, plan is not None]
    if sum(ways) == 0:
        raise ConfigError(
            "export needs --macs R, --params R, --latency-ms MS, --trial N or --plan DIR, for instance "
            "--macs 0.5."
        )
    if sum(ways) > 1:
        raise ConfigError(
            "--plan, --trial and a budget (--macs, --params, --latency-ms) each name one network; give one."
        )
    if plan is not None and by is not Ranking.ACCURACY:
        raise ConfigError("--by chooses within a budget, and --plan names one network; leave one out.")


def read_batch(text: str) -> int | None:
    """None for a free batch size."""
    if text == DYNAMIC:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"--batch wants 'dynamic' or a number such as 1, got '{text}'.")
    return int(text)


def from_study(
    config: StudyConfig,
    bounds: Bounds,
    trial: int | None,
    by: Ranking,
    *,
    device: str | None,
    progress: Progress,
) -> tuple[Session, nn.Module, dict[str, Any]]:
    """A network of the study, rebuilt, and what it costs."""
    from autoprune.searching.study import read_front
    from autoprune.session import Session
    from autoprune.storing.storages import open_storage

    # From storage alone, so that a budget out of reach is known before the model is loaded.
    front = read_front(config.storage, config.name)
    wanted, config = choose(front, bounds, trial, by), as_searched(config, front)
    opened = open_storage(config.storage, create=False)
    session = Session.open(config, device=device, progress=progress, storage=opened)
    point = session.front().of_trial(wanted.trial)
    return session, session.build(point), {name: getattr(point, name) for name in COSTS}


def from_plan(
    config: StudyConfig, folder: Path, *, device: str | None, progress: Progress
) -> tuple[Session, nn.Module, dict[str, Any]]:
    """A saved network in the study's model, and what it costs."""
    import copy

    from autoprune.plan import load, read_plan
    from autoprune.session import Session
    from autoprune.storing.storages import open_storage

    plan = read_plan(folder)
    # No trial is read or written, so a storage need not exist.
    session = Session.open(
        config, device=device, progress=progress, storage=open_storage(None), searches=False
    )
    network = load(copy.deepcopy(session.model), folder)
    facts = {name: getattr(plan.result, name) for name in COSTS if name != "trial"}
    return session, network, {"trial": plan.trial, **facts}


def example_inputs(session: Session) -> Any:
    """Calibration images, as many as the largest batch that is checked."""
    from autoprune.data.inputs import concatenate, leading
    from autoprune.exporting.exported import CHECKED

    return concatenate(leading(session.engine.task.chunks, max(CHECKED)))


def sentence(exported: Exported, facts: dict[str, Any]) -> str:
    sizes = " and ".join(map(str, exported.differences))
    worst = max(exported.differences.values())
    return (
        f"{exported.path}: trial {facts['trial']}, {facts['macs']:,} MACs "
        f"({facts['macs_ratio']:.1%} of dense), {exported.bytes:,} bytes; agrees with PyTorch on batches of "
        f"{sizes} (relative difference {worst:.1g})"
    )
