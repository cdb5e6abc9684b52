"""Rules for layers: convolutions, linear maps and products with a weight."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor, fx

from autoprune.graph.call import Call, Rule
from autoprune.graph.groups import Layer, LayerKind, Role
from autoprune.graph.labels import Labels
from autoprune.graph.trace import DenseOutput, Value


def convolution(call: Call) -> Value:
    """conv1d/2d/3d: weight (O, I/groups, *kernel); labels of the input run along its channel dimension."""
    spatial = len(call.shape) - 2 if call.operator == "aten.convolution" else int(call.operator[-2])
    if call.arg("transposed", False):
        return _transposed(call, spatial)
    return _forward(call, spatial)


def transposed_convolution(call: Call) -> Value:
    return _transposed(call, int(call.operator.removesuffix("d")[-1]) if call.operator[-1] == "d" else 2)


def _forward(call: Call, spatial: int) -> Value:
    channel = len(call.shape) - 1 - spatial
    weight, columns = call.state_name(call.arg("weight")), _columns(call, "input", channel)
    if weight is None or columns is None:
        return _stay_dense(call, channel, weight)
    groups = int(call.arg("groups", 1))
    record(
        call,
        LayerKind.CONV,
        weight,
        groups,
        math.prod(call.shape[channel + 1 :]) * math.prod(call.shape[:channel]),
        call.arg("bias"),
    )
    if groups == 1:
        call.trace.attach(weight, 1, Role.CONSUMER, columns)
        rows = _produce(call, weight, 0, call.shape[channel], call.arg("bias"))
    elif groups == columns.numel():
        call.counts(columns)
        rows = columns.repeat_interleave(call.shape[channel] // groups)
        follow(call, rows, weight, call.state_name(call.arg("bias")))
    else:
        call.trace.attach(weight, 1, Role.CONSUMER, _tie(call, columns, groups))
        rows = _produce(call, weight, 0, call.shape[channel], call.arg("bias"))
        _tie(call, rows, groups)
    return Labels.along(call.shape, channel, rows)


def _transposed(call: Call, spatial: int) -> Value:
    """conv_transpose1d/2d/3d: weight (I, O/groups, *kernel)."""
    channel = len(call.shape) - 1 - spatial
    weight, columns = call.state_name(call.arg("weight")), _columns(call, "input", channel)
    if weight is None or columns is None:
        return _stay_dense(call, channel, weight)
    groups = int(call.arg("groups", 1))
    places = math.prod(call.labels("input").shape) // columns.numel()
    record(call, LayerKind.CONV_TRANSPOSE, weight, groups, places, call.arg("bias"))
    if groups == 1:
        call.trace.attach(weight, 0, Role.CONSUMER, columns)
        rows = _produce(call, weight, 1, call.shape[channel], call.arg("bias"))
    elif groups == columns.numel() == call.shape[channel]:
        call.counts(columns)
        rows = columns
        follow(call, rows, weight, call.state_name(call.arg("bias")))
    else:
        return call.give_up("is a grouped transposed convolution")
    return Labels.along(call.shape, channel, rows)


def linear(call: Call) -> Value:
    """linear: weight (O, I), input (..., I)."""
    last = len(call.shape) - 1
    weight, columns = call.state_name(call.arg("weight")), _columns(call, "input", last)
    if weight is None or columns is None:
        return _stay_dense(call, last, weight)
    record(call, LayerKind.LINEAR, weight, 1, math.prod(call.shape[:-1]), call.arg("bias"))
    call.trace.attach(weight, 1, Role.CONSUMER, columns)
    return Labels.along(call.shape, last, _produce(call, weight, 0, call.shape[last], call.arg("bias")))


def matrix_product(call: Call, input: str, matrix: object, bias: object = None) -> Labels | None:
    """A product of (..., I) with a weight (I, O); None where it is no weight, or channels run elsewhere.

    `bias` is the node of what is added for each of the O.
    """
    weight = call.state_name(matrix)
    last = len(call.shape) - 1
    columns = None if weight is None else _columns(call, input, last)
    if weight is None or columns is None or call.trace.program.tensors[weight].ndim != 2:
        return None
    record(call, LayerKind.PRODUCT, weight, 1, math.prod(call.shape[:-1]), bias)
    call.trace.attach(weight, 0, Role.CONSUMER, columns)
    return Labels.along(call.shape, last, _produce(call, weight, 1, call.shape[last], bias))


COMPUTED = (
    "has a weight that is computed (undo what computes it: remove_parametrizations, remove_weight_norm, "
    "remove_spectral_norm, prune.remove), cut from a larger one as in cross-attention, or of a module that "
    "is no part of the model"
)


def _columns(call: Call, name: str, dim: int) -> Tensor | None:
    """Labels of the input's channels, shape (in_channels,); None when they run along another dimension."""
    return call.labels_along(name, dim)


def _stay_dense(call: Call, dim: int, weight: str | None) -> Value:
    """Freeze what comes in, the layer's own tensors, and what goes out."""
    why = COMPUTED if weight is None else "mixes places along which channels run"
    for node in call.node.all_input_nodes:
        name = call.state_name(node)
        if name is not None:
            _pin(call, name, why)
        elif isinstance(value := call.value_of(node), Labels):
            call.freeze(value, why)
    if weight is None:
        call.trace.dense_outputs.append(DenseOutput(call.module, call.shape[dim], f"{call.where} {why}"))
    return call.constants()


def _pin(call: Call, name: str, why: str) -> None:
    """Keep rows and columns of a layer's tensor dense, whatever else uses it."""
    for dim, size in enumerate(call.trace.program.tensors[name].shape[:2]):
        labels = call.trace.ledger.fresh(size)
        call.freeze(labels, why)
        call.trace.attach(name, dim, Role.CONSUMER if dim else Role.PRODUCER, labels)


def _produce(call: Call, weight: str, dim: int, count: int, bias: object) -> Tensor:
    """Fresh labels of a layer's output channels, shape (count,); `bias` is a node, if there is one."""
    rows = call.trace.ledger.fresh(count)
    call.trace.attach(weight, dim, Role.PRODUCER, rows)
    if name := call.state_name(bias):
        call.trace.readers[name].add(weight)
        call.trace.attach(name, 0, Role.PRODUCER, rows)
    meet_computed(call, rows, bias)
    return rows


def follow(call: Call, rows: Tensor, *names: str | None) -> None:
    weight = call.state_name(call.arg("weight"))
    reader = weight if weight in call.trace.layers else call.operator
    for name in names:
        if name is not None:
            call.trace.readers[name].add(reader)
            call.trace.attach(name, 0, Role.FOLLOWER, rows)


def meet_computed(call: Call, rows: Tensor, node: object) -> None:
    """A per-channel vector that the forward computes (a scaled bias) meets the channels one by one."""
    if isinstance(node, fx.Node) and call.state_name(node) is None:
        vector = call.labels_of(node).vector_along(0)
        assert vector is not None
        call.unite(rows, vector)


def _tie(call: Call, channels: Tensor, groups: int) -> Tensor:
    """Tie the same position of every group of a grouped convolution; labels of the first group."""
    split = channels.reshape(groups, -1)
    call.unite(split[:1], split[1:])
    return split[0]


def record(
    call: Call,
    kind: LayerKind,
    weight: str,
    groups: int,
    places: int,
    bias: object,
    *,
    inside: bool = False,
) -> None:
    """Note the layer; a weight used again adds the places it is applied at.

    `inside`: the operator goes on with what the layer gives, and gives something else itself.
    """
    layers = call.trace.layers
    if weight in layers:
        known = layers[weight]
        alone, places = known.kind is kind, known.macs_per_weight + places
        layers[weight] = replace(known, macs_per_weight=places, norm=None, alone=alone and known.alone)
        return
    shape = tuple(call.trace.program.tensors[weight].shape)
    name, constant = layer_name(weight), call.state_name(bias)
    norm = None if inside else _norm(call)
    layers[weight] = Layer(name, kind, weight, constant, shape, groups, places, norm)


def layer_name(weight: str) -> str:
    """Module that owns the weight; the whole name for a weight of an unusual name."""
    return weight.removesuffix(".weight")


def _norm(call: Call) -> str | None:
    """Module of the batch norm that alone reads this call's output, and reads nothing else."""
    users = list(call.node.users)
    if len(users) != 1 or "batch_norm" not in str(users[0].target):
        return None
    mean = Call(users[0], call.trace).arg("running_mean")
    name = call.state_name(mean) if mean is not None and len(mean.users) == 1 else None
    return name.removesuffix(".running_mean") if name and name.endswith(".running_mean") else None


LAYERS: dict[str, Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), transposed_convolution),
    "linear": linear,
}
