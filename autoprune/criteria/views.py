"""From a calibrated network to what criteria see of each group."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from autoprune.calibration.statistics import Statistics
from autoprune.criteria.base import GroupView
from autoprune.criteria.elimination import Reader
from autoprune.errors import DataError
from autoprune.graph.groups import ChannelGraph, ChannelGroup, Layer, Member, Role
from autoprune.graph.orientation import outputs_first
from autoprune.graph.state import tensor_of


def group_view(
    model: nn.Module,
    graph: ChannelGraph,
    statistics: Statistics,
    group: ChannelGroup,
    seed: int,
    history: Mapping[str, Tensor] | None = None,
) -> GroupView:
    """What criteria see of `group`; `seed` is the study's, mixed with the group's name.

    `history` maps the name of a weight to the L1 norms of its filters over training, (epochs, filters).
    """
    return GroupView(
        name=group.name,
        width=group.width,
        filters=_filters(model, group),
        readers=lambda: readers(model, graph, statistics, group),
        consumers=lambda: [channel_rows(model, member) for member in group.of_role(Role.CONSUMER)],
        seed=zlib.crc32(f"{seed}/{group.name}".encode()),
        history=None if history is None else _group_history(model, graph, group, history),
    )


def readers(
    model: nn.Module, graph: ChannelGraph, statistics: Statistics, group: ChannelGroup
) -> list[Reader]:
    """The group's consumers that have statistics, in order of execution."""
    columns = {member.tensor: member for member in group.of_role(Role.CONSUMER)}
    return [
        _reader(model, layer, columns[layer.weight], statistics)
        for layer in graph.consumers(group)
        if layer.name in statistics.moments
    ]


def columns_of(layer: Layer, member: Member) -> Tensor:
    """Columns of the flattened weight (out, n) that read each channel, channel-major, (width * b,)."""
    taps = torch.Size(layer.shape[2:]).numel()
    return (member.positions.unsqueeze(-1) * taps + torch.arange(taps)).flatten()


def dense_weight(model: nn.Module, layer: Layer) -> Tensor:
    """The layer's weight as float64 matrices, (groups, out per group, n)."""
    weight = outputs_first(layer, tensor_of(model, layer.weight).detach().double())
    return weight.reshape(layer.groups, len(weight) // layer.groups, -1)


def channel_rows(model: nn.Module, member: Member) -> Tensor:
    """What a parameter holds of each channel of a group, (width, n), in the parameter's own type."""
    tensor = tensor_of(model, member.tensor).detach().movedim(member.dim, 0)
    return tensor[member.positions.to(tensor.device)].flatten(1)


def producer_weights(model: nn.Module, group: ChannelGroup) -> list[Member]:
    """The producers' weights, without their biases."""
    producers = group.of_role(Role.PRODUCER)
    return [member for member in producers if tensor_of(model, member.tensor).dim() > 1]


def _reader(model: nn.Module, layer: Layer, member: Member, statistics: Statistics) -> Reader:
    weight = dense_weight(model, layer)
    columns = columns_of(layer, member).to(weight.device)
    return Reader(
        weight=weight[:, :, columns],
        inverse=statistics.inverse(layer)[:, columns][:, :, columns],
        power=statistics.power(layer, weight),
    )


def _filters(model: nn.Module, group: ChannelGroup) -> Tensor:
    return torch.cat([channel_rows(model, member) for member in producer_weights(model, group)], 1)


def _group_history(
    model: nn.Module, graph: ChannelGraph, group: ChannelGroup, history: Mapping[str, Tensor]
) -> Tensor:
    """Norms of the group's channels, (producers, epochs, width); tied filters of one channel are summed.

    Embeddings have no history: what they alone compute has the norms that it has now.
    """
    layers = {layer.weight for layer in graph.layers}
    found = []
    for member in producer_weights(model, group):
        if member.tensor not in layers:
            continue
        rows = tensor_of(model, member.tensor).shape[member.dim]
        norms = history.get(member.tensor)
        if norms is None or norms.shape[-1] != rows:
            came = "nothing" if norms is None else f"norms of {norms.shape[-1]}"
            raise DataError(
                f"the history must hold norms of the {rows} filters of '{member.tensor}', it holds {came}; "
                "record it again on this network."
            )
        found.append(norms[:, member.positions.to(norms.device)].sum(-1))
    return torch.stack(found or [_filters(model, group).abs().sum(1).unsqueeze(0)])
