"""Trainings that note the history of the network as they go."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn

from autoprune.config import TrainingConfig
from autoprune.graph.groups import ChannelGraph
from autoprune.progress import Progress
from autoprune.training.data import TrainingData
from autoprune.training.history import History, HistoryRecorder
from autoprune.training.objective import ExtraLoss
from autoprune.training.tuning import fine_tune


def for_epochs(settings: TrainingConfig, epochs: int) -> TrainingConfig:
    """The same training over another number of epochs; the warm-up keeps its share."""
    warmup = settings.warmup_epochs * epochs / settings.epochs
    return settings.model_copy(update={"epochs": epochs, "warmup_epochs": warmup})


def train_recorded(
    network: nn.Module,
    graph: ChannelGraph,
    *,
    data: TrainingData,
    settings: TrainingConfig,
    teacher: nn.Module | None,
    seed: int,
    progress: Progress,
    title: str,
    metric: Callable[[nn.Module], float] | None = None,
    extra_loss: ExtraLoss | None = None,
) -> History:
    """Fine-tune `network` in place; the norms of its filters at the end of every epoch.

    With `metric` (higher is better) the best epoch's weights stay, otherwise the last one's.
    """
    recorder = HistoryRecorder(network, graph)
    fine_tune(
        network,
        data=data,
        settings=settings,
        teacher=teacher if settings.distillation > 0 else None,
        evaluate=metric,
        seed=seed,
        progress=progress,
        title=title,
        callbacks=(recorder,),
        extra_loss=extra_loss,
    )
    return recorder.history()


def record_history(
    model: nn.Module,
    graph: ChannelGraph,
    *,
    data: TrainingData,
    settings: TrainingConfig,
    epochs: int,
    seed: int,
    progress: Progress,
) -> History:
    """What stands in for the history of a training nobody recorded: that of a short fine-tuning of a copy."""
    progress.message(
        f"no history of the network's training is at hand: recording one over {epochs} epochs of fine-tuning"
    )
    return train_recorded(
        copy.deepcopy(model),
        graph,
        data=data,
        settings=for_epochs(settings, epochs),
        teacher=model,
        seed=seed,
        progress=progress,
        title="record history",
    )
