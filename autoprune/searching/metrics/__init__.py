"""What a network is judged by, one file per task."""

from autoprune.searching.metrics.base import LabelledMetric, metrics
from autoprune.searching.metrics.classification import Accuracy
from autoprune.searching.metrics.own import OwnMetric, find_metric, name_of, scale_of
from autoprune.searching.metrics.regression import R2
from autoprune.searching.metrics.segmentation import MeanIoU, PixelAccuracy

__all__ = [
    "R2",
    "Accuracy",
    "LabelledMetric",
    "MeanIoU",
    "OwnMetric",
    "PixelAccuracy",
    "find_metric",
    "metrics",
    "name_of",
    "scale_of",
]
