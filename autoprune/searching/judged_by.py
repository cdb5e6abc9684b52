"""What strategies ask of a study's metric, and which loss trains networks that are judged by it."""

from __future__ import annotations

from autoprune.config import TrainingConfig
from autoprune.errors import ConfigError
from autoprune.searching.evaluator import Metric
from autoprune.searching.metrics import Accuracy, LabelledMetric, scale_of
from autoprune.searching.strategies import strategies
from autoprune.training.augmentation import augmentation_for
from autoprune.training.losses import find_loss
from autoprune.training.losses.own import AUTOMATIC


def check_labels(strategy: str, metric: Metric) -> None:
    """ConfigError where a strategy needs classes and the metric knows none."""
    if strategies[strategy].needs_labels and not isinstance(metric, Accuracy):
        raise ConfigError(
            f"strategy '{strategy}' needs classes, for the gradients of its loss, but the metric is "
            f"'{scale_of(metric).name}'; pass a labelled validation loader that is judged by accuracy, or "
            "choose another strategy."
        )


def trained_so(settings: TrainingConfig, metric: Metric) -> TrainingConfig:
    """The settings with the loss that belongs to the metric, where they leave it open: before long work.

    What is judged by a function is trained as a classifier. ConfigError where loss or augmentation does
    not exist, or does not fit the other settings.
    """
    usual = LabelledMetric.loss
    own = metric.loss if isinstance(metric, LabelledMetric) else usual
    if settings.loss == AUTOMATIC and own != usual:
        settings = settings.model_copy(update={"loss": own})
    # What is wrong with an augmentation would otherwise come out in the first training.
    augmentation_for(settings, find_loss(settings))
    return settings
