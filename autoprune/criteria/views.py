"""From a calibrated network to what criteria see of each group."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn

from autoprune.calibration.statistics import Statistics
from autoprune.criteria.base import GroupView
from autoprune.criteria.elimination import Reader
from autoprune.graph.groups import ChannelGraph, ChannelGroup, Layer, LayerKind, Member, Role


def group_view(
    model: nn.Module, graph: ChannelGraph, statistics: Statistics, group: ChannelGroup, seed: int
) -> GroupView:
    """What criteria see of `group`; `seed` is the study's, mixed with the group's name."""
    return GroupView(
        name=group.name,
        width=group.width,
        filters=_filters(model, group),
        readers=lambda: readers(model, graph, statistics, group),
        seed=zlib.crc32(f"{seed}/{group.name}".encode()),
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
    taps = 1
    if layer.kind is not LayerKind.LINEAR:
        taps = torch.Size(layer.shape[2:]).numel()
    return (member.positions.unsqueeze(-1) * taps + torch.arange(taps)).flatten()


def dense_weight(model: nn.Module, layer: Layer) -> Tensor:
    """The layer's weight as float64 matrices, (groups, out per group, n)."""
    weight = model.get_parameter(layer.weight).detach().double()
    return weight.reshape(layer.groups, layer.shape[0] // layer.groups, -1)


def _reader(model: nn.Module, layer: Layer, member: Member, statistics: Statistics) -> Reader:
    weight = dense_weight(model, layer)
    second = statistics.covariance(layer)
    columns = columns_of(layer, member).to(weight.device)
    return Reader(
        weight=weight[:, :, columns],
        inverse=statistics.inverse(layer)[:, columns][:, :, columns],
        power=float(((weight @ second) * weight).sum()),
    )


def _filters(model: nn.Module, group: ChannelGroup) -> Tensor:
    parts = []
    for member in group.of_role(Role.PRODUCER):
        tensor = model.get_parameter(member.tensor).detach().movedim(member.dim, 0)
        if tensor.dim() > 1:
            rows = tensor.flatten(1)[member.positions.to(tensor.device)]
            parts.append(rows.flatten(1))
    return torch.cat(parts, 1)
