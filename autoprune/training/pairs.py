"""Pairs of channels whose norms went alike through training, and the regulariser that makes them more so.

Basha et al., Neurocomputing 2024 (HBFP). The authors' code adds the distance as a plain number, without a
gradient; here it reaches both members of a pair. Distances and norms are summed over a group's producers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn

from autoprune.criteria.history import distances, removals
from autoprune.graph.groups import ChannelGraph, ChannelGroup, Kept, Role
from autoprune.graph.slicing import member_sites, positions_kept
from autoprune.graph.state import tensor_of
from autoprune.training.history import History, filter_norms, producer_weights

Remove = Literal["smaller", "larger"]


@dataclass(frozen=True)
class Pairs:
    """Channels of one group by their place in the network as it is, (pairs,) int64: who goes, who stays."""

    gone: Tensor
    stays: Tensor


def closest_pairs(history: Tensor, count: int, remove: Remove = "smaller") -> Pairs:
    """The `count` closest pairs of a history (producers, epochs, width), each with its own member to lose.

    Pairs come in order of `d_ij = sum_e |h_i(e) - h_j(e)|`; one that lost a member to a closer pair is passed
    over (a reading: the paper does not say what becomes of such a pair). The member with the norm smaller
    over all epochs goes, or the larger. Ties go by index.
    """
    norms = history.double().sum((0, 1))
    found = removals(distances(history.double()), norms if remove == "smaller" else -norms)
    pairs = torch.tensor(list(islice(found, count)), dtype=torch.int64).reshape(-1, 2)
    return Pairs(pairs[:, 0], pairs[:, 1])


class GroupNorms:
    """Where the norms of each group's channels lie in a network cut to the channels `kept`."""

    def __init__(self, graph: ChannelGraph, kept: Kept) -> None:
        self._weights = producer_weights(graph)
        self._stays = _rows_kept(graph, self._weights, kept)
        self._places = {group.name: self._of_group(group, kept) for group in graph.groups}

    def _of_group(self, group: ChannelGroup, kept: Kept) -> list[tuple[str, Tensor]]:
        """Weights and the rows (width, multiplicity) of the group's channels in them."""
        mine = kept.get(group.name, torch.arange(group.width))
        members = [member for member in group.of_role(Role.PRODUCER) if member.tensor in self._weights]
        return [(m.tensor, torch.searchsorted(self._stays[m.tensor], m.positions[mine])) for m in members]

    def of_history(self, history: History, group: ChannelGroup) -> Tensor:
        """(producers, epochs, width); tied filters of one channel are summed."""
        places = self._places[group.name]
        return torch.stack([history.norms[name][:, index].sum(-1) for name, index in places])

    def of_network(self, network: nn.Module, group: str) -> Tensor:
        """Norms as they are now, summed over producers, (width,); gradients pass."""
        rows = []
        for name, index in self._places[group]:
            norms = filter_norms(tensor_of(network, name), self._weights[name])
            rows.append(norms[index.to(norms.device)].sum(-1))
        return torch.stack(rows).sum(0)


def _rows_kept(graph: ChannelGraph, weights: Mapping[str, int], kept: Kept) -> dict[str, Tensor]:
    sites, shapes = member_sites(graph), {layer.weight: layer.shape for layer in graph.layers}
    return {n: positions_kept(shapes[n][dim], sites[n, dim], kept) for n, dim in weights.items()}


def pair_distance(norms: GroupNorms, network: nn.Module, pairs: Mapping[str, Pairs]) -> Tensor:
    """Mean over pairs of `| ||w_a||_1 - ||w_b||_1 |` relative to their group's mean norm; a scalar, 0 best.

    Pairs of all groups count alike. The mean norm is a constant to the gradient: otherwise growing all other
    filters would lower the distance.
    """
    found = []
    for name, pair in pairs.items():
        each = norms.of_network(network, name)
        gaps = (each[pair.gone.to(each.device)] - each[pair.stays.to(each.device)]).abs()
        found.append(gaps / each.mean().detach().clamp_min(torch.finfo(each.dtype).tiny))
    return torch.cat(found).mean()
