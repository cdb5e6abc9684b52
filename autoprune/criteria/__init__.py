"""Criteria: which channels of a group go first. One file per criterion, one table of names."""

from autoprune.criteria.base import Criterion, GroupView, criteria
from autoprune.criteria.dispersion import kernel_dispersion
from autoprune.criteria.elimination import Reader, greedy_order, loss_curve
from autoprune.criteria.fp_backward import FPBackward
from autoprune.criteria.history import History
from autoprune.criteria.lrf import LRF
from autoprune.criteria.norm import L1Norm, L2Norm
from autoprune.criteria.omp import OMP
from autoprune.criteria.random import Random
from autoprune.criteria.second_moment import SecondMoment
from autoprune.criteria.similarity import Similarity
from autoprune.criteria.views import group_view, readers

__all__ = [
    "LRF",
    "OMP",
    "Criterion",
    "FPBackward",
    "GroupView",
    "History",
    "L1Norm",
    "L2Norm",
    "Random",
    "Reader",
    "SecondMoment",
    "Similarity",
    "criteria",
    "greedy_order",
    "group_view",
    "kernel_dispersion",
    "loss_curve",
    "readers",
]
