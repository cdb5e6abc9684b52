"""Gradients of the loss with respect to the weights that produce each group's channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset

from autoprune.data.batches import loader
from autoprune.data.inputs import Inputs, concatenate
from autoprune.data.labelled import Labelled, labelled_pair
from autoprune.data.splits import random_order, size_of
from autoprune.errors import ModelError
from autoprune.graph.groups import ChannelGraph, Kept, Role
from autoprune.graph.slicing import member_sites, positions_kept
from autoprune.graph.state import tensor_of
from autoprune.layout import training_layout
from autoprune.searching.strategies.base import Gradients, LayerGradients

ZERO_GRADIENT = 1e7
"""What 1 / |gradient| counts as where the gradient is exactly zero (Sakai et al., 2022)."""


BATCH = 128
"""Images whose mean loss gives one gradient."""


@torch.no_grad()
def self_labelled(model: nn.Module, batches: Sequence[Inputs]) -> list[Labelled]:
    """Images with the classes that the network itself gives them, for want of true ones."""
    return [(batch, batch.call(model).argmax(1)) for batch in batches]


def true_labelled(training: Dataset[Any], count: int, device: torch.device) -> list[Labelled]:
    """`count` training images with their classes, the same ones each time."""
    chosen = Subset(training, random_order(size_of(training))[:count])
    pairs = [labelled_pair(batch) for batch in loader(chosen, device=device)]
    return [(inputs.to(device), labels.to(device).long()) for inputs, labels in pairs]


def rebatched(batches: Sequence[Labelled]) -> list[Labelled]:
    """The same images in batches of `BATCH`, whose size the mean of inverse gradients depends on."""
    inputs, labels = concatenate([inputs for inputs, _ in batches]), torch.cat([y for _, y in batches])
    starts = range(0, inputs.size, BATCH)
    return [(inputs.slice(i, i + BATCH), labels[i : i + BATCH]) for i in starts]


@dataclass(frozen=True)
class _Rows:
    """Where the kept channels of a group lie in one producer's weight: rows (width, multiplicity)."""

    group: str
    tensor: str
    dim: int
    rows: Tensor

    def of(self, tensor: Tensor) -> Tensor:
        """One row per channel, (width, n)."""
        found: Tensor = tensor.movedim(self.dim, 0)[self.rows.to(tensor.device)].flatten(1)
        return found


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    found = torch.autograd.grad(loss, parameters, allow_unused=True) if loss.requires_grad else (None,)
    if any(gradient is None for gradient in found):
        raise ModelError(
            "a strategy that derives rates from gradients needs them for all weights, but none reaches some "
            "(no_grad or detach in the forward); take that out, or choose another strategy."
        )
    return [gradient for gradient in found if gradient is not None]


def measure_gradients(
    model: nn.Module, graph: ChannelGraph, network: nn.Module, kept: Kept, batches: Sequence[Labelled]
) -> Gradients:
    """Mean cross-entropy of `network`, which is `model` sliced to `kept`, and gradients of its producers.

    Gradients are taken batch by batch in eval mode; `1 / |dL/dw|` is summed over the weights of a layer
    and averaged over batches. The network's tensors stay as they are.
    """
    places = _places(model, graph, kept)
    names = sorted({place.tensor for place in places})
    parameters = [tensor_of(network, name).requires_grad_(True) for name in names]
    network.eval()
    layout = training_layout(network, model, batches[0][0])
    totals, losses, images = [0.0] * len(places), 0.0, 0
    for inputs, labels in batches:
        with torch.enable_grad():
            loss = F.cross_entropy(inputs.laid_out(layout).call(network), labels)
        found = dict(zip(names, _gradients(loss, parameters), strict=True))
        totals = [t + _inverse(p.of(found[p.tensor])) for t, p in zip(totals, places, strict=True)]
        losses, images = losses + float(loss.detach()) * len(labels), images + len(labels)
    layers: dict[str, list[LayerGradients]] = {group.name: [] for group in graph.groups}
    for place, total in zip(places, totals, strict=True):
        filters = place.of(tensor_of(network, place.tensor).detach()).cpu()
        norms = filters.double().abs().sum(1).numpy()
        layers[place.group].append(LayerGradients(norms, filters.numel(), total / len(batches)))
    return Gradients(losses / images, layers)


def _inverse(gradient: Tensor) -> float:
    size = gradient.cpu().double().abs()
    return float(torch.where(size > 0, size.reciprocal(), ZERO_GRADIENT).sum())


def _places(model: nn.Module, graph: ChannelGraph, kept: Kept) -> list[_Rows]:
    """Where each group's producers have their channels in the sliced network, weights only."""
    sites, found = member_sites(graph), []
    for group in graph.groups:
        for member in group.of_role(Role.PRODUCER):
            dense = tensor_of(model, member.tensor)
            if dense.dim() > 1:
                stays = positions_kept(dense.shape[member.dim], sites[member.tensor, member.dim], kept)
                rows = torch.searchsorted(stays, member.positions[kept[group.name]])
                found.append(_Rows(group.name, member.tensor, member.dim, rows))
    return found
