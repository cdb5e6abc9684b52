"""Training of LeNet-5 from scratch, with the history of its filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.data import Dataset

from autoprune.config import TrainingConfig
from autoprune.graph import find_groups

if TYPE_CHECKING:
    from autoprune.training.history import History

SETTINGS = TrainingConfig(
    epochs=6,
    batch_size=128,
    optimizer="adam",
    learning_rate=1e-3,
    weight_decay=0.0,
    distillation=0.0,
    augmentation="none",
)
"""Adam at 1e-3 as in the paper on history-based pruning, whose number of epochs is larger."""


def train_lenet5(model: nn.Module, dataset: Dataset[Any], seed: int) -> History:
    """Train in place on (image, label) pairs and return the history; deterministic on one machine."""
    # Imported here: the training package builds on this one.
    from autoprune.training import TrainingData, fine_tune
    from autoprune.training.history import HistoryRecorder

    image = dataset[0][0].unsqueeze(0)
    recorder = HistoryRecorder(model, find_groups(model, (image,)))
    data = TrainingData.of(dataset)
    fine_tune(model, data=data, settings=SETTINGS, seed=seed, callbacks=(recorder,))
    return recorder.history()
