"""Whether a study that continues is judged as it was: what a hash cannot tell of a function."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from optuna import Study

from autoprune.searching import attributes as attr
from autoprune.searching.evaluator import Metric
from autoprune.searching.metrics import LabelledMetric, OwnMetric, scale_of

SAME = 1e-3
"""Relative difference of two values of one metric on one network that machines may make."""

_log = logging.getLogger(__name__)


def compare_dense(study: Study, metric: Metric, measure: Callable[[], float]) -> None:
    """Measure the dense network again, where a function of the user's judges; warn of another value.

    No error: a function may be noisy. Metrics of our own are told apart by their names and labels.
    """
    if isinstance(metric, LabelledMetric) and not isinstance(metric, OwnMetric):
        return
    before, now = float(study.user_attrs[attr.DENSE]["accuracy"]), measure()
    if not math.isclose(before, now, rel_tol=SAME, abs_tol=1e-9):
        _log.warning(
            "study '%s' has %.6g for the dense network, '%s' gives %.6g now: older and newer trials cannot "
            "be compared. Restore the function and its data, or choose another name or storage.",
            study.study_name,
            before,
            scale_of(metric).name,
            now,
        )
