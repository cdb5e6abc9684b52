"""Fine-tuning in place, ending with the best weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.config import TrainingConfig
from autoprune.fingerprint import fingerprint
from autoprune.graph.capture import evaluation_mode
from autoprune.progress import Progress, Silent, Stage
from autoprune.training.augmentation import augmentation_for
from autoprune.training.checkpoint import read_checkpoint, write_checkpoint
from autoprune.training.data import TrainingData
from autoprune.training.loop import Loop
from autoprune.training.losses import find_loss
from autoprune.training.objective import ExtraLoss, Objective
from autoprune.training.optimisation import make_optimizer
from autoprune.training.record import Epoch, EpochEnd, TrainingResult
from autoprune.training.state import TrainingState, put_back, snapshot


def fine_tune(
    network: nn.Module,
    *,
    data: TrainingData,
    settings: TrainingConfig,
    teacher: nn.Module | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    title: str = "fine-tune",
    callbacks: Sequence[EpochEnd] = (),
    checkpoint: str | Path | None = None,
    extra_loss: ExtraLoss | None = None,
) -> TrainingResult:
    """Train `network` in place, on the device it is on; it ends in eval mode with the best weights seen.

    Best is the epoch with the highest `evaluate(network)`, the weights as given included (epoch 0); without
    `evaluate`, the last epoch. `teacher`, on the same device, is needed where `settings.distillation` > 0.
    `extra_loss(network)` is added to the loss at every step. `callbacks` are called as `(network, epoch)`
    after each epoch, the network in eval mode with that epoch's weights.

    `checkpoint` is a file written after every epoch; where it exists, training continues from it and ends
    as if it had never stopped. What callbacks remember is not in it. It is left to the caller to remove.

    The same seed gives the same weights on the same machine; the caller's random state is left as it was.
    Raises TrainingError when the loss or the metric is not finite (the network then has the best weights so
    far), DataError for images, labels or outputs that do not fit, ConfigError for settings that do not.
    """
    optimizer = make_optimizer(network, settings)
    device = next(network.parameters()).device
    loss = find_loss(settings)
    objective = Objective(settings, loss, augmentation_for(settings, loss), device, teacher, extra_loss)
    loop = Loop(network, data, settings, objective, evaluate, seed, device)
    file = None if checkpoint is None else Path(checkpoint)
    identity = {} if file is None else _identity(loop, teacher)
    with torch.enable_grad(), nullcontext() if teacher is None else evaluation_mode(teacher):
        saved = None if file is None else read_checkpoint(file, identity)
        before = loop.metric(0) if saved is None else None
        state = TrainingState(network, optimizer, before, snapshot(network), before)
        try:
            if saved is not None:
                state.restore(saved, str(file))
            with (progress or Silent()).stage(title, settings.epochs * loop.steps) as stage:
                for epoch in _missing_epochs(loop, state, stage):
                    for callback in callbacks:
                        callback(network, epoch)
                    if file is not None:
                        write_checkpoint(file, state.to_save(), identity)
        finally:
            put_back(network, state.best)
            network.zero_grad(set_to_none=True)
            network.eval()
    return state.result(len(data))


def _missing_epochs(loop: Loop, state: TrainingState, stage: Stage) -> Iterator[Epoch]:
    """Train those that the state does not have yet, one at a time."""
    done = len(state.history)
    stage.advance(done * loop.steps)
    for number in range(done + 1, loop.settings.epochs + 1):
        epoch = loop.epoch(number, state.optimizer, stage)
        state.add(epoch)
        yield epoch


def _identity(loop: Loop, teacher: nn.Module | None) -> dict[str, Any]:
    """What must be the same when a training continues."""
    return {
        "settings": loop.settings.identity(),
        "seed": loop.seed,
        **loop.data.identity(),
        "network": fingerprint(loop.network),
        "teacher": None if teacher is None else fingerprint(teacher),
    }
