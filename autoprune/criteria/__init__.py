"""Criteria: which channels of a group go first. One file per criterion, one table of names."""

from autoprune.criteria.base import Criterion, GroupView, criteria
from autoprune.criteria.elimination import Reader, greedy_order, loss_curve
from autoprune.criteria.norm import L1Norm, L2Norm
from autoprune.criteria.random import Random
from autoprune.criteria.second_moment import SecondMoment
from autoprune.criteria.views import group_view, readers

__all__ = [
    "Criterion",
    "GroupView",
    "L1Norm",
    "L2Norm",
    "Random",
    "Reader",
    "SecondMoment",
    "criteria",
    "greedy_order",
    "group_view",
    "loss_curve",
    "readers",
]
