"""Fine-tune a network that `autoprune build` saved, with the study's data and dense network."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.data import Dataset

from autoprune.config import StudyConfig, TrainingConfig, check_section
from autoprune.errors import DataError, PlanError
from autoprune.plan import check_output, load, read_plan, save_plan
from autoprune.plan.record import FineTuning, Plan
from autoprune.progress import Progress, Silent
from autoprune.searching.judged_by import trained_so
from autoprune.searching.metric_scale import MetricScale
from autoprune.training import Epoch, EpochEnd, TrainingData, TrainingResult, fine_tune
from autoprune.versions import versions

if TYPE_CHECKING:
    from autoprune.session import Session

CHECKPOINT_FILE = "training.checkpoint"
"""Lies in the output folder while a training runs or is interrupted; removed once the network is saved."""


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """What a fine-tuning gave; accuracies in 0..1 on the validation split."""

    plan: Plan
    training: TrainingResult

    def to_json(self) -> dict[str, Any]:
        """What `finetune --json` prints."""
        record = self.plan.fine_tuning[-1]
        return {
            "study": self.plan.study,
            "accuracy_before": record.accuracy_before,
            "accuracy": record.accuracy,
            "best_epoch": record.best_epoch,
            "images": record.images,
            "seconds": self.training.seconds,
            "macs": self.plan.result.macs,
            "params": self.plan.result.params,
            "settings": record.settings,
            "history": [epoch.to_json() for epoch in self.training.history],
        }


def with_training(config: StudyConfig, changes: Mapping[str, Any]) -> StudyConfig:
    """The study with other values in [training] (None: as they are); ConfigError where they do not fit."""
    given = {name: value for name, value in changes.items() if value is not None}
    values = {**config.training.model_dump(), **given}
    check_section("training", values)
    return config.model_copy(update={"training": TrainingConfig.model_validate(values)})


def check_place(out: str | Path, *, resume: bool = False, force: bool = False) -> None:
    """PlanError unless the tuned network can be saved in `out`; cheap, so call it before any long work."""
    checkpoint = Path(out) / CHECKPOINT_FILE
    if checkpoint.exists() and not (resume or force):
        raise PlanError(
            f"'{out}' holds the checkpoint of a training that was interrupted; pass --resume (resume=True) "
            "to continue it, or --force (force=True) to begin anew."
        )
    check_output(out, force=force or (resume and checkpoint.exists()))


def fine_tune_saved(
    session: Session,
    plan_folder: str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    force: bool = False,
    seed: int | None = None,
    progress: Progress | None = None,
) -> FineTuned:
    """Tune the network saved in `plan_folder` as the study's [training] says, and save it in `out`.

    The dense network is the teacher. The weights are those of the epoch that is best on the validation
    split. After every epoch a checkpoint is written to `out`; with `resume`, training continues from it.
    `seed` stands in for that of the study.
    Raises PlanError, DataError, ConfigError or TrainingError.
    """
    check_place(out, resume=resume, force=force)
    settings = trained_so(session.config.training, session.engine.task.metric)
    plan = read_plan(plan_folder)
    seed = session.config.search.seed if seed is None else seed
    data = training_data(session)
    network = load(copy.deepcopy(session.model), plan_folder)
    checkpoint = Path(out) / CHECKPOINT_FILE
    if not resume:
        checkpoint.unlink(missing_ok=True)
    elif not checkpoint.exists() and progress is not None:
        progress.message(f"'{out}' holds no checkpoint to continue from: the training begins")
    result = fine_tune(
        network,
        data=data,
        settings=settings,
        teacher=session.model if settings.distillation > 0 else None,
        evaluate=session.engine.task.metric,
        seed=seed,
        progress=progress,
        callbacks=[_reporter(settings.epochs, progress or Silent(), session.metric)],
        checkpoint=checkpoint,
    )
    record = _record(result, settings, seed)
    tuned = plan.model_copy(update={"fine_tuning": [*plan.fine_tuning, record]})
    saved = save_plan(out, network, tuned, force=True)
    checkpoint.unlink()
    return FineTuned(plan=saved, training=result)


def training_data(session: Session) -> TrainingData:
    """The images of the study to train on; DataError where it has none."""
    settings, splits = session.config.training, session.splits
    dataset: Dataset[Any] | None = splits.train
    if dataset is None and settings.distillation == 1:
        # Without labels the calibration images serve as well.
        dataset = splits.calibration
    if dataset is None:
        raise DataError(
            f"dataset '{session.config.data.dataset}' has no training split, which fine-tuning needs; return "
            "autoprune.data.splits.Splits with train from its function, or set distillation = 1 to train on "
            "calibration images."
        )
    return TrainingData.of(dataset, images=settings.images, workers=settings.workers)


def _record(result: TrainingResult, settings: TrainingConfig, seed: int) -> FineTuning:
    assert result.metric is not None and result.metric_before is not None
    return FineTuning(
        settings=settings.model_dump(mode="json"),
        seed=seed,
        images=result.images,
        best_epoch=result.best_epoch,
        accuracy_before=result.metric_before,
        accuracy=result.metric,
        versions=versions(),
    )


def _reporter(epochs: int, progress: Progress, metric: MetricScale) -> EpochEnd:
    """One line after every epoch: without a terminal there are no bars to see."""

    def report(network: nn.Module, epoch: Epoch) -> None:
        shown = metric.shown(epoch.metric) if epoch.metric is not None else ""
        progress.message(
            f"epoch {epoch.number}/{epochs}: loss {epoch.loss:.4f}, validation {shown}, {epoch.seconds:.0f} s"
        )

    return report
