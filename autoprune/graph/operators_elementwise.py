"""Rules for element-wise operators: labels that meet are united."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.graph.call import Call, Rule, names
from autoprune.graph.labels import CONSTANT, Labels
from autoprune.graph.spread import narrowed, varying
from autoprune.graph.trace import One, Value


def elementwise(call: Call) -> Value:
    """Broadcast all tensor inputs and unite their labels along the one channel dimension."""
    if not call.shapes:
        return None
    raw = call.raw_inputs()
    if len({dim - value.ndim for value in raw for dim in _dims(value)}) > 1:
        return combine_spread(call, [value.expanded() for value in raw], call.shape)
    return combine(call, call.inputs(), call.shape)


def _dims(value: One) -> list[int]:
    if isinstance(value, Labels):
        return [] if value.dim is None else [value.dim]
    return varying(value.tensor)


def combine_spread(call: Call, inputs: list[Tensor], shape: tuple[int, ...]) -> One:
    """The same for labels (int64) that vary along several dimensions, each of its own rank."""
    inputs = [labels.reshape((1,) * (len(shape) - labels.dim()) + tuple(labels.shape)) for labels in inputs]
    whole = [labels for labels in inputs if tuple(labels.shape) == shape and bool((labels != CONSTANT).any())]
    if not whole:
        # An outer product: no input has all the channels.
        return combine(call, call.inputs(), shape)
    # After the unions all are alike: the one that varies least says so best.
    main: One | None = call.spread(min(whole, key=lambda labels: len(varying(labels))))
    for other in inputs:
        if main is not None:
            main = _meet_spread(call, main, other)
    if main is None:
        for labels in inputs:
            call.freeze(labels, "meets channels along another dimension")
        return Labels.uniform(shape)
    return main


def _meet_spread(call: Call, main: One, other: Tensor) -> One | None:
    """`main`, of the result's size, after it met `other`; None where all of it must stay."""
    labels = main.expanded()
    along = varying(labels)
    if bool((other == CONSTANT).all()):
        # What is a constant of its own along channels keeps their number.
        return call.whole(main, [dim for dim in along if other.size(dim) > 1])
    if any(other.size(dim) == 1 for dim in along):
        # One value serves many channels: it must stay, and so must the places it has.
        call.freeze(other, "broadcasts it over channels")
        return call.whole(main, varying(other))
    still = [d for d in range(labels.dim()) if d not in along and d not in varying(other)]
    call.unite(narrowed(labels, still), narrowed(other, still))
    return call.spread(torch.where(labels == CONSTANT, other, labels)) if bool((labels == 0).any()) else main


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
    return call.like(call.raw_inputs()[0])


def of_its_own(call: Call) -> Value:
    """New values of a size that is given; of the input only type and device are read."""
    return call.constants()


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
    **dict.fromkeys(names("new_zeros new_ones new_full new_empty"), of_its_own),
    "glu": gated,
}
