"""SFP: similarity-based filter pruning (Li et al., Information Sciences 689, 2025, 121418)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from autoprune.criteria.base import Criterion, GroupView, criteria
from autoprune.criteria.filter_gram import is_dead
from autoprune.criteria.norm import share_gone

Clustering = Literal["k-means", "average-linkage"]


_SAME = 1.0 - 1e-12
"""Cosine from which on two filters count as one."""


@criteria.register("similarity")
@dataclass(frozen=True, kw_only=True)
class Similarity(Criterion):
    """Clusters filters by their cosine and keeps of each class its share of largest L1 norm.

    A reading: the paper's summary names neither algorithm nor metric. Unit filters are clustered into
    `class_share` x width classes, by k-means or by average linkage. Shares are rounded by the method of
    Sainte-Lague, the seat to the class with the largest `size / (2 kept + 1)`: the count is exact at every
    width and what stays at a width stays at all larger ones. In a class, filters that point the same way as
    a larger one are redundant and go before those with the smallest norm; filters of zeros go before all.
    All at once: the batch removal size changes nothing. Invariant to a common scale; the scale of a single
    filter changes its norm alone.
    """

    clustering: Clustering = "k-means"
    class_share: Annotated[float, Field(gt=0, le=1)] = 0.5

    citation = "Li et al., Information Sciences 689, 2025, 121418 (SFP)"

    def order(self, view: GroupView, batch: int) -> Tensor:
        filters = view.filters.double().cpu()
        norms = filters.abs().sum(1)
        rising = torch.argsort(norms, stable=True)
        dead = int(is_dead(filters).sum())
        alive = rising[dead:]
        count = max(1, round(self.class_share * len(alive)))
        rank = _ranks(normalize(filters[alive], dim=1), count, self.clustering)
        return torch.cat([rising[:dead], alive[torch.argsort(rank, stable=True)]])

    def loss(self, view: GroupView, order: Tensor) -> Tensor:
        """Share of the summed L1 norm that is gone."""
        return share_gone(view.filters.double().abs().sum(1), order)


def similarity_classes(units: Tensor, count: int, clustering: Clustering) -> Tensor:
    """Class of each of the distinct unit filters (n, weights): (n,) int64, at most `count` classes.

    Deterministic, and indifferent to the order of all filters but the last, from which k-means starts;
    its other starts are the filters farthest from those already taken.
    """
    if len(units) <= 1:
        return torch.zeros(len(units), dtype=torch.int64)
    # Imported here: scikit-learn takes longer than all other packages but torch, and few searches need it.
    from sklearn.cluster import AgglomerativeClustering, KMeans

    count = min(count, len(units))
    if clustering == "average-linkage":
        found = AgglomerativeClustering(count, metric="cosine", linkage="average").fit_predict(units.numpy())
    else:
        starts = units[_farthest(units, count)]
        found = KMeans(count, init=starts.numpy(), n_init=1).fit_predict(units.numpy())
    return torch.from_numpy(np.asarray(found, dtype=np.int64))


def _farthest(units: Tensor, count: int) -> list[int]:
    """The last filter and `count - 1` others, each the farthest from those before it."""
    taken = [len(units) - 1]
    nearest = units @ units[-1]
    while len(taken) < count:
        taken.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, units @ units[taken[-1]])
    return taken


def _ranks(units: Tensor, count: int, clustering: Clustering) -> Tensor:
    """When each filter is given a seat, (n,), lower is removed earlier; `units` stand by rising norm."""
    like = units @ units.mT > _SAME
    # Of filters that point the same way, the last has the largest norm and stands for all.
    stands = len(units) - 1 - like.flip(1).int().argmax(1) if len(units) else like.sum(1)
    leads = stands == torch.arange(len(units))
    classes = torch.zeros(len(units), dtype=torch.int64)
    classes[leads] = similarity_classes(units[leads], count, clustering)
    return _seats(classes[stands], leads)


def _seats(classes: Tensor, leads: Tensor) -> Tensor:
    """Quotient at which a class keeps each member: leading filters first, later ones before earlier."""
    quotient = torch.zeros(len(classes), dtype=torch.float64)
    for label in set(classes.tolist()):
        members = (classes == label).nonzero().squeeze(1)
        kept_first = members[torch.argsort(leads[members].int(), stable=True)].flip(0)
        quotient[kept_first] = len(members) / (2.0 * torch.arange(len(members), dtype=torch.float64) + 1.0)
    return quotient
