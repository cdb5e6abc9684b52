"""What a network is judged by, one file per task."""

from autoprune.searching.metrics.base import Labelled, LabelledMetric, labelled_pair, metrics
from autoprune.searching.metrics.classification import Accuracy
from autoprune.searching.metrics.own import OwnMetric, find_metric, name_of, scale_of
from autoprune.searching.metrics.regression import R2
from autoprune.searching.metrics.segmentation import MeanIoU, PixelAccuracy

__all__ = [
    "R2",
    "Accuracy",
    "Labelled",
    "LabelledMetric",
    "MeanIoU",
    "OwnMetric",
    "PixelAccuracy",
    "find_metric",
    "labelled_pair",
    "metrics",
    "name_of",
    "scale_of",
]
