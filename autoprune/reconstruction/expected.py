"""Moments of a group's channels that follow from weights and batch norms alone, without an image.

A batch norm says what the mean `beta` and the standard deviation `|gamma|` of its channel are. With inputs
that vary alike in all directions, two channels correlate as their filters do, by their cosine. Taken as
Gaussian, they have known moments after the activation `a` too: with `a(|gamma_i| x + beta_i)` expanded in
Hermite polynomials of coefficients `c_ik`, the covariance is `sum_{k > 0} c_ik c_jk rho_ij^k` (Mehler's
formula; for the rectifier without a mean, Cho and Saul, NeurIPS 2009).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.criteria.views import producer_weights
from autoprune.graph.groups import ChannelGraph, ChannelGroup, Layer, Member, Role
from autoprune.graph.state import tensor_of

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "silu": F.silu,
}

_ORDER = 30
"""Hermite polynomials; what higher ones hold is counted as if it were of the next order."""
_NODES = 80


@dataclass(frozen=True)
class Expected:
    """Covariance (width, width) and mean (width,) of a group's channels, float64, in arbitrary units.

    `centred` says that the mean is known; else the covariance is a second moment and the mean zero.
    """

    covariance: Tensor
    mean: Tensor
    centred: bool

    def second(self, centred: bool) -> Tensor:
        """The covariance, or the second moment E[u u^T] where the mean must be fitted too."""
        return self.covariance if centred else self.covariance + torch.outer(self.mean, self.mean)


def of_filters(filters: Tensor) -> Expected:
    """The filters' Gram matrix: the moments of linear channels on white inputs of zero mean."""
    rows = filters.double()
    return Expected(rows @ rows.mT, rows.new_zeros(len(rows)), False)


def of_channels(
    model: nn.Module, graph: ChannelGraph, group: ChannelGroup, activation: str
) -> Expected | None:
    """Moments after batch norm and activation; None where producers tie different numbers of channels, or
    are no layers (an embedding) or layers that are read both ways, where some consumers read channels before
    a depthwise convolution and others behind it, or where that makes several of each.

    Producers that meet in a residual sum count as independent. A producer without batch norm counts as
    reading white inputs of unit power, which tells nothing reliable of the mean. Where a channel of the
    group ties several (a grouped convolution), their second moments are summed. To a depthwise convolution
    neighbouring places count as independent; without batch norm behind it there is no activation either.
    """
    layers = {layer.weight: layer for layer in graph.layers}
    members, between = producer_weights(model, group), _depthwise(graph, group)
    if len({member.positions.shape[1] for member in members}) > 1:
        return None
    if any(not _computes(layers.get(member.tensor), member) for member in members):
        return None
    single = all(member.positions.shape[1] == 1 for member in (*members, *(one for _, one in between)))
    if between and not (single and _in_one_line(graph, group, [layer for layer, _ in between])):
        return None
    parts = [_linear(model, member, layers[member.tensor]) for member in members]
    covariance = torch.stack([covariance for covariance, _ in parts]).sum(0)
    mean = torch.stack([mean for _, mean in parts]).sum(0)
    covariance, mean = activated(covariance, mean, ACTIVATIONS[activation])
    known = len(mean) == 1 and all(layers[member.tensor].norm is not None for member in members)
    for layer, member in between:
        covariance, mean = _filtered(model, layer, member, covariance, mean)
        if layer.norm is not None:
            covariance, mean = activated(covariance, mean, ACTIVATIONS[activation])
            known = True
    if known:
        return Expected(covariance[0], mean[0], True)
    second = (covariance + mean.unsqueeze(2) * mean.unsqueeze(1)).sum(0)
    return Expected(second, torch.zeros_like(mean[0]), False)


def activated(
    covariance: Tensor, mean: Tensor, activation: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Covariance (..., n, n) and mean (..., n) of Gaussian channels after an element-wise activation."""
    deviation = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(covariance.dtype).tiny).sqrt()
    correlation = covariance / deviation.unsqueeze(-1) / deviation.unsqueeze(-2)
    nodes, weights = (torch.as_tensor(part).to(mean) for part in np.polynomial.hermite_e.hermegauss(_NODES))
    weights = weights / weights.sum()
    values = activation(deviation.unsqueeze(-1) * nodes + mean.unsqueeze(-1))
    new_mean = values @ weights
    left = values.square() @ weights - new_mean.square()
    power, found = torch.ones_like(correlation), torch.zeros_like(correlation)
    for polynomial in _hermite(nodes)[1:]:
        power = power * correlation
        coefficient = values @ (weights * polynomial)
        found = found + coefficient.unsqueeze(-1) * coefficient.unsqueeze(-2) * power
        left = left - coefficient.square()
    rest = left.clamp_min(0.0).sqrt()
    return found + rest.unsqueeze(-1) * rest.unsqueeze(-2) * power * correlation, new_mean


def _hermite(x: Tensor) -> list[Tensor]:
    """Hermite polynomials 0 to `_ORDER` at `x`, of unit power under the normal distribution."""
    found = [torch.ones_like(x), x]
    for k in range(2, _ORDER + 1):
        found.append((x * found[-1] - math.sqrt(k - 1) * found[-2]) / math.sqrt(k))
    return found


def _depthwise(graph: ChannelGraph, group: ChannelGroup) -> list[tuple[Layer, Member]]:
    """Depthwise convolutions that the group's channels run through, in order of execution, and where in
    their weights these channels lie."""
    followers = {member.tensor: member for member in group.of_role(Role.FOLLOWER)}
    return [(layer, followers[layer.weight]) for layer in graph.layers if layer.weight in followers]


def _in_one_line(graph: ChannelGraph, group: ChannelGroup, between: Sequence[Layer]) -> bool:
    """Whether all producers run before the first and all consumers after the last of these layers, which is
    as near as the order of execution comes to who reads whom."""
    place = {layer.weight: number for number, layer in enumerate(graph.layers)}
    first, last = place[between[0].weight], place[between[-1].weight]
    before = [place.get(member.tensor, -1) < first for member in group.of_role(Role.PRODUCER)]
    return all(before) and all(place[member.tensor] > last for member in group.of_role(Role.CONSUMER))


def _filtered(
    model: nn.Module, layer: Layer, member: Member, covariance: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor]:
    """Covariance (1, width, width) and mean (1, width) of channels behind a depthwise convolution, and the
    batch norm that follows it if any; `member` says where in the weight they lie."""
    rows = tensor_of(model, layer.weight).detach().double().flatten(1)
    mine = member.positions[:, 0].to(rows.device)
    kernels, ones = rows[mine], rows.new_ones(len(rows))
    covariance = covariance * (kernels @ kernels.mT)
    if layer.norm is None:
        shift = 0 * ones if layer.bias is None else _state(tensor_of(model, layer.bias), ones)
        return covariance, mean * kernels.sum(1) + shift[mine]
    norm = model.get_submodule(layer.norm)
    deviation = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(covariance.dtype).tiny).sqrt()
    scale = _state(norm.weight, ones)[mine] / deviation
    shift = _state(norm.bias, 0 * ones)[mine]
    return covariance * scale.unsqueeze(2) * scale.unsqueeze(1), shift.unsqueeze(0)


def _computes(layer: Layer | None, member: Member) -> bool:
    return layer is not None and member.dim == layer.outputs_dim


def _linear(model: nn.Module, member: Member, layer: Layer) -> tuple[Tensor, Tensor]:
    """Covariance (m, width, width) and mean (m, width) before the activation, m channels per unit."""
    rows = tensor_of(model, member.tensor).detach().double().movedim(member.dim, 0).flatten(1)
    scale, shift = rows.new_ones(len(rows)), rows.new_zeros(len(rows))
    if layer.norm is not None:
        rows = F.normalize(rows, dim=1)
        norm = model.get_submodule(layer.norm)
        scale, shift = _state(norm.weight, scale), _state(norm.bias, shift)
    elif layer.bias is not None:
        shift = _state(tensor_of(model, layer.bias), shift)
    positions = member.positions.to(rows.device)
    rows = (rows * scale[:, None])[positions].movedim(1, 0)
    return rows @ rows.mT, shift[positions].mT


def _state(found: object, absent: Tensor) -> Tensor:
    """A parameter in float64; a batch norm may be without."""
    return found.detach().double() if isinstance(found, Tensor) else absent
