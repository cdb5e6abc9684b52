"""`autoprune finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli.options import Device, Json, Quiet, Storage, Study, read_study
from autoprune.cli.output import print_json, working
from autoprune.cli.progress import make_progress

if TYPE_CHECKING:
    from autoprune.searching.metric_scale import MetricScale

PlanFolder = Annotated[
    Path,
    typer.Option("--plan", metavar="DIR", help="Folder that 'autoprune build' wrote.", show_default=False),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the tuned network.", show_default=False)]
Epochs = Annotated[int | None, typer.Option(metavar="N", help="In place of \\[training] epochs.")]
LearningRate = Annotated[
    float | None, typer.Option(metavar="X", help="In place of \\[training] learning_rate.")
]
BatchSize = Annotated[int | None, typer.Option(metavar="N", help="In place of \\[training] batch_size.")]
Images = Annotated[
    int | None, typer.Option(metavar="N", help="Training images at most, in place of the file's.")
]
Distillation = Annotated[
    float | None, typer.Option(metavar="A", help="Share of distillation, in place of the file's.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Random seed, in place of the file's.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted training in --out.")]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")]


def finetune(
    study: Study,
    plan: PlanFolder,
    out: Out,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    batch_size: BatchSize = None,
    images: Images = None,
    distillation: Distillation = None,
    seed: Seed = None,
    resume: Resume = False,
    force: Force = False,
    storage: Storage = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a saved network further, as section 'training' of the study says, and save the best epoch.

    The dense network is the teacher where distillation is above 0. A checkpoint in --out is written after
    every epoch and removed at the end.

    Example: autoprune finetune studies/digits.toml --plan pruned/ --out tuned/
    """
    from autoprune.finetuning import check_place, fine_tune_saved, with_training
    from autoprune.plan import read_plan
    from autoprune.session import Session
    from autoprune.storing.storages import open_storage

    changes = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "images": images,
        "distillation": distillation,
    }
    config = with_training(read_study(study, storage=storage), changes)
    read_plan(plan)
    check_place(out, resume=resume, force=force)
    progress = make_progress(quiet)
    with working():
        # No trial is read or written, so a storage need not exist.
        session = Session.open(
            config, device=device, progress=progress, storage=open_storage(None), searches=False
        )
        tuned = fine_tune_saved(session, plan, out, resume=resume, force=force, seed=seed, progress=progress)
    if json:
        print_json({"out": str(out), **tuned.to_json()})
    else:
        typer.echo(sentence(tuned.to_json(), out, session.metric))


def sentence(result: dict[str, Any], out: Path, metric: MetricScale) -> str:
    before, after = metric.shown(result["accuracy_before"]), metric.shown(result["accuracy"])
    return (
        f"{out}: {metric.name} {before} before, {after} after on the validation split "
        f"(epoch {result['best_epoch']} of {len(result['history'])}), "
        f"{result['images']:,} training images, {result['seconds']:.0f} s"
    )
