"""HBFP: history-based filter pruning (Basha et al., Neurocomputing 2024, arXiv 2102.00160)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from autoprune.criteria.base import Criterion, GroupView, criteria
from autoprune.criteria.norm import share_gone
from autoprune.errors import ConfigError


@criteria.register("history")
@dataclass(frozen=True, kw_only=True)
class History(Criterion):
    """Removes one of each pair of filters whose L1 norms went most alike through training.

    The distance of a pair is `d_ij = sum_e |h_i(e) - h_j(e)|` over epochs e. Again and again the closest pair
    of what is left loses the member with the smaller norm summed over epochs, or the larger with
    `remove = "larger"`, as in the authors' VGG script. Readings: distances and norms are summed over the
    producers of a group; the pairs of an iteration do not overlap with filters already gone. Distances do
    not depend on what is gone, so the batch removal size changes nothing. Invariant to a common scale.
    """

    remove: Literal["smaller", "larger"] = "smaller"

    needs_history = True
    citation = "Basha et al., Neurocomputing 2024 (HBFP)"

    def order(self, view: GroupView, batch: int) -> Tensor:
        history = _recorded(view).double().cpu()
        norms = history.sum((0, 1))
        return _pairwise_order(distances(history), norms if self.remove == "smaller" else -norms)

    def loss(self, view: GroupView, order: Tensor) -> Tensor:
        """Share of the L1 norm, summed over epochs, that is gone."""
        return share_gone(_recorded(view).double().sum((0, 1)), order)


def distances(history: Tensor) -> Tensor:
    """`d_ij` of all pairs, (width, width), from (producers, epochs, width); lower is more alike."""
    paths = history.flatten(0, 1).mT
    return torch.cdist(paths, paths, p=1.0)


def _recorded(view: GroupView) -> Tensor:
    if view.history is None:
        raise ConfigError(
            f"criterion 'history' needs the norms of the filters of '{view.name}' over training, got none; "
            "record them with a history recorder while the network trains, or choose another criterion."
        )
    return view.history


def removals(distance: Tensor, norms: Tensor) -> Iterator[tuple[int, int]]:
    """(who goes, who stays) of the closest pair left, again and again; the smaller norm, then index, goes.

    A pair that lost a member to a closer one is passed over. `distance` (width, width), `norms` (width,).
    """
    first, second = torch.triu_indices(len(distance), len(distance), offset=1)
    pairs = torch.argsort(distance[first, second], stable=True)
    gone: set[int] = set()
    for i, j in zip(first[pairs].tolist(), second[pairs].tolist(), strict=True):
        if i not in gone and j not in gone:
            goes, stays = (i, j) if norms[i] <= norms[j] else (j, i)
            gone.add(goes)
            yield goes, stays


def _pairwise_order(distance: Tensor, norms: Tensor) -> Tensor:
    """Channels in order of removal; the one that no pair takes is last."""
    order = [goes for goes, _ in removals(distance, norms)]
    return torch.tensor([*order, *set(range(len(distance))).difference(order)])
