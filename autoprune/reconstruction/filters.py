"""Weights-only compensation: what stays in a group takes over the kernels of what goes.

FP-OMP (Purohit et al., AIMLSystems 2022): `g_l += sum_{j not in S} lambda_jl g_j`, where least squares on the
filters gives lambda.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from autoprune.calibration.statistics import centred
from autoprune.criteria.views import channel_rows, producer_weights
from autoprune.graph.groups import ChannelGroup, Kept, Layer, Member, Role
from autoprune.graph.orientation import outputs_first
from autoprune.linear_algebra import Factored
from autoprune.reconstruction.base import Bench, Reconstruction, reconstructions
from autoprune.reconstruction.expected import Expected, of_channels, of_filters
from autoprune.reconstruction.weights import add_constant, set_weight

Fit = Literal["filters", "identity", "relu", "relu6", "gelu", "silu"]


@reconstructions.register("filters")
@dataclass(frozen=True, kw_only=True)
class Filters(Reconstruction):
    """Consumers take over the kernels of removed channels, by least squares on weights alone: no image.

    Each removed channel is written as a combination of those that stay, and its kernels are added to
    theirs by those coefficients; several producers of a group are stacked. `fit = "filters"` fits the raw
    filters, as in the paper. The default fits the moments that batch norms promise of the channels after the
    named activation (see `expected`) and corrects the mean: an extension of the paper, far better on
    ResNet-20 (studies/LOG.md). Where no batch norm follows the producers, inputs count as white. The damping
    is the study's, relative to the mean diagonal. Without images nothing guarantees that outputs come nearer
    to the dense ones; they mostly do.
    """

    fit: Fit = "relu"

    needs_images = False
    citation = "Purohit et al., AIMLSystems 2022 (FP-OMP); Joo et al., AAAI 2021 (LRF)"

    def restore(self, bench: Bench, network: nn.Module, kept: Kept) -> None:
        takeovers = _Takeovers(bench)
        for group in bench.graph.groups:
            stays = kept.get(group.name)
            if stays is not None and len(stays) < group.width:
                takeovers.add(group, stays, self._expected(bench, group))
        for layer, weight, constant in takeovers.results():
            rows, columns = bench.rows(layer, kept), bench.columns(layer, kept)
            rows, columns = rows.to(weight.device), columns.to(weight.device)
            turned = outputs_first(layer, weight).flatten(1)
            set_weight(network, layer, turned[rows][:, columns])
            if constant is not None:
                add_constant(network, layer, constant[rows])

    def _expected(self, bench: Bench, group: ChannelGroup) -> Expected:
        found = None
        if self.fit != "filters":
            found = of_channels(bench.model, bench.graph, group, self.fit)
        if found is not None:
            return found
        parts = [channel_rows(bench.model, member) for member in producer_weights(bench.model, group)]
        return of_filters(torch.cat(parts, 1))


def coefficients(second: Tensor, stays: Tensor, gone: Tensor, damping: float) -> Tensor:
    """lambda (gone, stays): each removed channel as the best combination of those that stay.

    `second` (width, width) are the channels' products; `damping` is relative to the mean diagonal of those
    that stay and pulls towards zero.
    """
    system = Factored.of(second[stays][:, stays].unsqueeze(0), damping)
    return system.solve(second[stays][:, gone].unsqueeze(0)).squeeze(0).mT


class _Takeovers:
    """Dense consumer weights to which the kernels of removed channels have been added, float64."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._layers = {layer.weight: layer for layer in bench.graph.layers}
        self._weights: dict[str, Tensor] = {}
        self._constants: dict[str, Tensor] = {}

    def results(self) -> Iterator[tuple[Layer, Tensor, Tensor | None]]:
        """Layer, weight in the dense shape, and the constant (out,) that its output lost, if known."""
        for name, weight in self._weights.items():
            yield self._layers[name], weight, self._constants.get(name)

    def add(self, group: ChannelGroup, stays: Tensor, expected: Expected) -> None:
        """Let every consumer of `group` do without all channels but `stays`."""
        device = expected.mean.device
        stays = stays.to(device)
        is_gone = torch.ones(group.width, dtype=torch.bool, device=device)
        is_gone[stays] = False
        gone = is_gone.nonzero().squeeze(1)
        for member in group.of_role(Role.CONSUMER):
            layer = self._layers[member.tensor]
            if not self._bench.refits(layer):
                continue
            corrects = expected.centred and centred(layer) and not layer.kind.inputs_first
            replaced = coefficients(expected.second(corrects), stays, gone, self._bench.damping)
            if corrects:
                self._correct(member, gone, expected.mean[gone] - replaced @ expected.mean[stays])
            self._take_over(member, stays, gone, replaced)

    def _weight(self, name: str) -> Tensor:
        if name not in self._weights:
            self._weights[name] = self._bench.model.get_parameter(name).detach().double().clone()
        return self._weights[name]

    def _take_over(self, member: Member, stays: Tensor, gone: Tensor, replaced: Tensor) -> None:
        kernels = self._weight(member.tensor).movedim(member.dim, 0)
        positions = member.positions.to(kernels.device)
        taken = torch.einsum("gs,g...->s...", replaced, kernels[positions[gone]])
        kernels[positions[stays]] += taken

    def _correct(self, member: Member, gone: Tensor, lost: Tensor) -> None:
        """Note what the outputs lose of their mean; borders, where padding is read, are passed over."""
        weight = self._weight(member.tensor)
        kernels = weight.movedim(member.dim, 0)[member.positions.to(weight.device)[gone]]
        constant = torch.einsum("g,gbot->o", lost, kernels.reshape(*kernels.shape[:3], -1))
        self._constants[member.tensor] = self._constants.get(member.tensor, 0) + constant
