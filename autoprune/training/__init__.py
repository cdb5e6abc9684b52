"""Training: fine-tuning with distillation, in place, reproducible, from checkpoints."""

from autoprune.training.data import TrainingData
from autoprune.training.history import History, HistoryRecorder
from autoprune.training.losses import cross_entropy, distillation_loss
from autoprune.training.objective import ExtraLoss
from autoprune.training.record import Epoch, EpochEnd, TrainingResult
from autoprune.training.tuning import fine_tune

__all__ = [
    "Epoch",
    "EpochEnd",
    "ExtraLoss",
    "History",
    "HistoryRecorder",
    "TrainingData",
    "TrainingResult",
    "cross_entropy",
    "distillation_loss",
    "fine_tune",
]
