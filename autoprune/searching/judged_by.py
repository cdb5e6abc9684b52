"""What strategies and trainings ask of a study's metric, checked before long work."""

from __future__ import annotations

from autoprune.errors import ConfigError
from autoprune.searching.evaluator import Metric
from autoprune.searching.metrics import Accuracy, LabelledMetric, scale_of
from autoprune.searching.strategies import strategies


def check_labels(strategy: str, metric: Metric) -> None:
    """ConfigError where a strategy needs classes and the metric knows none."""
    if strategies[strategy].needs_labels and not isinstance(metric, Accuracy):
        raise ConfigError(
            f"strategy '{strategy}' needs classes, for the gradients of its loss, but the metric is "
            f"'{scale_of(metric).name}'; pass a labelled validation loader that is judged by accuracy, or "
            "choose another strategy."
        )


def check_classifier(metric: Metric) -> None:
    """ConfigError where a network that is judged so cannot be trained here: before long work."""
    if isinstance(metric, LabelledMetric) and not metric.of_classifiers:
        raise ConfigError(
            f"fine-tuning and recoveries train classifiers, got networks judged by '{metric.scale.name}'; "
            "leave them out, and train a built network in your own loop."
        )
