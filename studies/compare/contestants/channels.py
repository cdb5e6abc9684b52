"""Somebody else's choice of channels in autoprune's groups, read off weights that carry their positions."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from autoprune.graph import ChannelGraph, layer_positions
from autoprune.graph.groups import ChannelGroup, Role

_COLUMNS = 2.0**20

Survivors = Mapping[tuple[str, int], Tensor]
"""(weight, dimension 0 or 1) -> positions of the dense weight that are left, in their order."""
Unit = tuple[str, int]
"""A group and one of its channels."""


class Untranslatable(Exception):
    """The choice is none that autoprune's groups allow."""


@torch.no_grad()
def tagged(model: nn.Module, graph: ChannelGraph) -> nn.Module:
    """A copy in float64 whose weights say where they stood: row times 2^20 plus column."""
    copied = copy.deepcopy(model).double().requires_grad_(True)
    for layer in graph.layers:
        weight = copied.get_parameter(layer.weight)
        rows = torch.arange(weight.shape[0], dtype=torch.float64) * _COLUMNS
        tags = rows[:, None] + torch.arange(weight.shape[1], dtype=torch.float64)
        weight.copy_(tags.reshape(*tags.shape, *[1] * (weight.dim() - 2)).expand_as(weight))
    return copied


@torch.no_grad()
def survivors(pruned: nn.Module, graph: ChannelGraph) -> dict[tuple[str, int], Tensor]:
    """What is left of a tagged network after somebody pruned it."""
    found = {}
    for layer in graph.layers:
        weight = pruned.get_parameter(layer.weight)
        tags = weight.reshape(*weight.shape[:2], -1)[:, :, 0].cpu()
        found[layer.weight, 0] = (tags[:, 0] / _COLUMNS).floor().long()
        found[layer.weight, 1] = (tags[0] % _COLUMNS).long()
    return found


def to_kept(graph: ChannelGraph, left: Survivors) -> dict[str, Tensor]:
    """The same choice as kept channels per group; Untranslatable where it is none that the groups allow."""
    kept = {group.name: _kept(group, left) for group in graph.groups}
    for layer in graph.layers:
        _check(layer.weight, layer_positions(graph, layer, kept), left)
    return kept


def _kept(group: ChannelGroup, left: Survivors) -> Tensor:
    """Channels that the first layer which computes them still computes."""
    member = next(m for m in group.of_role(Role.PRODUCER) if (m.tensor, m.dim) in left)
    stays = torch.isin(member.positions, left[member.tensor, member.dim])
    kept = stays.all(1).nonzero().flatten()
    if len(kept) == 0:
        raise Untranslatable(f"nothing is left of '{group.name}'")
    return kept


def _check(weight: str, wanted: tuple[Tensor, Tensor], left: Survivors) -> None:
    for dim, positions in enumerate(wanted):
        if not torch.equal(positions, left[weight, dim]):
            where = "outputs" if dim == 0 else "inputs"
            raise Untranslatable(
                f"its {where} of '{weight.removesuffix('.weight')}' are not those of autoprune's groups"
            )


def units(graph: ChannelGraph) -> dict[tuple[str, int, int], Unit]:
    """(tensor, dimension, position) -> the group and channel that it belongs to; frozen ones are absent."""
    return {
        (member.tensor, member.dim, position): (group.name, channel)
        for group in graph.groups
        for member in group.members
        for channel, row in enumerate(member.positions.tolist())
        for position in row
    }


def same_output(network: nn.Module, graph_network: nn.Module, example: Tensor) -> bool:
    """Whether two networks answer alike, as translated and original must."""
    with torch.no_grad():
        ours, theirs = graph_network(example), network(example)
    return ours.shape == theirs.shape and bool(torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3))


def one_unit(found: Iterable[Unit | None]) -> bool:
    """Whether positions that go together are those of one channel."""
    distinct = set(found)
    return len(distinct) == 1 and None not in distinct

