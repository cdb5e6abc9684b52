"""What training minimises, by the kind of task: classes, classes of pixels, values, or what users write."""

from autoprune.training.losses.base import TaskLoss, task_losses
from autoprune.training.losses.classification import CrossEntropy, cross_entropy, distillation_loss
from autoprune.training.losses.own import OwnLoss, find_loss
from autoprune.training.losses.regression import SquaredError
from autoprune.training.losses.segmentation import PixelCrossEntropy

__all__ = [
    "CrossEntropy",
    "OwnLoss",
    "PixelCrossEntropy",
    "SquaredError",
    "TaskLoss",
    "cross_entropy",
    "distillation_loss",
    "find_loss",
    "task_losses",
]
