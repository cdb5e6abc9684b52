"""Rules for element-wise operators: labels that meet are united."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.graph.labels import CONSTANT, Labels
from autoprune.graph.trace import Call, Rule, Value, names


def elementwise(call: Call) -> Value:
    """Broadcast all tensor inputs and unite their labels along the one channel dimension."""
    inputs = call.inputs()
    if not call.shapes:
        return None
    return combine(call, inputs, call.shape)


def combine(call: Call, inputs: list[Labels], shape: tuple[int, ...]) -> Labels:
    """Labels of an element-wise result of size `shape`."""
    widest = max(inputs, key=lambda item: item.vector.numel(), default=None)
    if widest is None:
        return Labels.uniform(shape)
    if widest.dim is None:
        return _combine_uniform(call, inputs, shape)
    dim = widest.dim - widest.ndim
    if widest.vector.numel() != shape[dim]:
        call.freeze(widest, "changes the number of channels")
        return Labels.uniform(shape)
    channels = widest.vector
    for other in inputs:
        if other is not widest:
            channels = _meet(call, channels, other, dim)
    return Labels.along(shape, dim, channels)


def _combine_uniform(call: Call, inputs: list[Labels], shape: tuple[int, ...]) -> Labels:
    whole = [item for item in inputs if item.shape == shape] or inputs
    for other in inputs:
        if other is not whole[0]:
            call.unite(whole[0].vector, other.vector)
    return whole[0].reshaped(shape)


def _meet(call: Call, channels: Tensor, other: Labels, dim: int) -> Tensor:
    """Unite `other` with the labels `channels` that run along `dim` (negative) of the result."""
    vector = other.vector_along(dim) if other.ndim >= -dim else None
    if other.ndim < -dim or other.shape[dim] == 1:
        # One value serves every channel: it must stay, and ties nothing.
        call.freeze(other, "broadcasts it over channels")
    elif vector is None:
        call.freeze(other, "meets channels along another dimension")
        call.freeze(channels, "meets channels along another dimension")
    else:
        call.unite(channels, vector)
        return torch.where(channels == CONSTANT, vector, channels)
    return channels


def gated(call: Call) -> Value:
    """glu: one half of the channels gates the other; position i of both halves is tied."""
    labels, dim = call.labels("self"), call.arg("dim")
    halves = labels.expanded().chunk(2, dim)
    if labels.varies_along(dim):
        call.unite(halves[0], halves[1])
    return call.settle(halves[0])


def same_size(call: Call) -> Value:
    """New values on the size of the input, which follows the input when it is pruned."""
    return call.like(call.inputs()[0])


def overwrite(call: Call) -> Value:
    """Writing into a tensor through a view: what it held and what it gets both stay dense."""
    return call.give_up("writes into a tensor")


_SAME = names(
    "to _to_copy type_as alias detach lift_fresh_copy lift_fresh dropout feature_dropout alpha_dropout "
    "feature_alpha_dropout native_dropout zeros_like ones_like full_like empty_like rand_like randn_like "
    "contiguous clone bernoulli fill zero"
)

ELEMENTWISE: dict[str, Rule] = {
    **dict.fromkeys(_SAME, same_size),
    **dict.fromkeys(names("hardswish relu6 threshold rsub where addcmul addcdiv lerp"), elementwise),
    **dict.fromkeys(names("copy index_put slice_scatter select_scatter"), overwrite),
    "glu": gated,
}
