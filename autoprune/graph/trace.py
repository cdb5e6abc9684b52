"""Trace: what an operator's rule sees (`Call`) and what all rules write to (`Trace`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.graph.capture import Program
from autoprune.graph.groups import Layer, Role
from autoprune.graph.labels import CONSTANT, Classes, Labels, Ledger, settle
from autoprune.graph.spread import Spread, class_numbers, gathered, narrowed, settle_all, tied, varying

One = Labels | Spread
"""One labelled activation."""

Value = One | Sequence[One] | None
"""What a node yields: one labelled activation, several, or nothing that is a tensor."""

Rule = Callable[["Call"], Value]


@dataclass(frozen=True)
class Attachment:
    """A dimension of a state tensor whose indices carry channel labels, `vector` of shape (size,)."""

    tensor: str
    dim: int
    role: Role
    vector: Tensor


@dataclass(frozen=True)
class DenseOutput:
    """An operator whose output channels can never be pruned, because it owns no plain weight."""

    name: str
    width: int
    reason: str


@dataclass(frozen=True)
class Product:
    """A product of activations: `macs` for each place along its channels, labels `vector`, (places,)."""

    vector: Tensor
    macs: int


@dataclass(frozen=True)
class Reshape:
    """A reshape, in the module of this path, that makes or unmakes the dimension of spread labels."""

    module: str
    labels: Tensor


class Trace:
    """Labels of every node visited so far, and the dimensions of state tensors they are tied to."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ledger = Ledger()
        self.values: dict[fx.Node, Value] = {}
        self.attachments: dict[tuple[str, int], Attachment] = {}
        self.layers: dict[str, Layer] = {}
        self.dense_outputs: list[DenseOutput] = []
        self._free_state: dict[str, One] = {}
        self.spreads: list[Spread] = []
        self.products: list[Product] = []
        self.reshapes: list[Reshape] = []

    def attach(self, tensor: str, dim: int, role: Role, vector: Tensor) -> None:
        """Run `vector`'s channels along `dim` of a state tensor; several uses of it are tied."""
        known = self.attachments.get((tensor, dim))
        if known is None:
            self.attachments[tensor, dim] = Attachment(tensor, dim, role, vector)
        else:
            self.ledger.unite(known.vector, vector, f"'{tensor}' is shared with channels that stay dense")

    def state_labels(self, name: str) -> One:
        """Fresh labels of a state tensor used outside a layer; of a large one, along its widest dimension."""
        if name not in self._free_state:
            self._free_state[name] = self.opened(_fresh_labels(self.program.tensors[name], self.ledger))
        return self._free_state[name]

    def opened(self, value: One) -> One:
        """The value, noted where labels vary along several dimensions: in the end along one."""
        if isinstance(value, Spread):
            self.spreads.append(value)
        return value

    def close(self) -> None:
        """Settle what is spread, attach state tensors used outside layers, freeze those used both ways."""
        for name, value in self._free_state.items():
            both = [item for (tensor, _), item in self.attachments.items() if tensor == name]
            if both and value.ndim > 1:
                for vector in (_all_labels(value), *(item.vector for item in both)):
                    self.ledger.freeze(vector, f"'{name}' is used both as a layer's weight and outside it")
        classes = settle_all(self.spreads, self.ledger)
        for name, value in self._free_state.items():
            labels = value if isinstance(value, Labels) else _settled(value, classes)
            if labels.ndim and (labels.dim is not None or labels.ndim == 1):
                self._follow(name, labels)

    def _follow(self, name: str, labels: Labels) -> None:
        vector = labels.vector_along(0 if labels.dim is None else labels.dim)
        used = any(tensor == name for tensor, _ in self.attachments)
        if vector is not None and not (used and labels.ndim > 1):
            self.attach(name, labels.dim or 0, Role.FOLLOWER, vector)


_SPREAD_STATE = 2**18
"""Elements up to which every element of a state tensor has a label of its own."""


def _fresh_labels(tensor: Tensor, ledger: Ledger) -> One:
    shape = tuple(tensor.shape)
    if sum(size > 1 for size in shape) > 1 and tensor.numel() <= _SPREAD_STATE:
        return Spread(ledger.fresh(tensor.numel()).reshape(shape))
    widest = max(range(len(shape)), key=lambda dim: (shape[dim], dim), default=None)
    fresh = ledger.fresh(1 if widest is None else shape[widest])
    return Labels.along(shape, -1 if widest is None else widest, fresh)


def _all_labels(value: One) -> Tensor:
    return value.vector if isinstance(value, Labels) else value.tensor


def _settled(value: Spread, classes: Classes) -> Labels:
    """The labels along the one dimension that is left."""
    dims = varying(class_numbers(value.tensor, classes))
    others = [dim for dim in range(value.ndim) if dim not in dims]
    vector = narrowed(value.tensor, others).reshape(-1)
    return Labels(value.shape, dims[0] if dims else None, vector.clone())


class Call:
    """One operator call: its arguments by schema name, and the labels of its inputs."""

    def __init__(self, node: fx.Node, trace: Trace) -> None:
        self.node = node
        self.trace = trace
        self.arguments = _bind(node)

    @property
    def operator(self) -> str:
        """Name without overload, e.g. 'aten.conv2d'."""
        return operator_name(self.node)

    @property
    def module(self) -> str:
        """Path of the innermost module that the call was made in."""
        stack = self.node.meta.get("nn_module_stack") or {}
        return str(list(stack.values())[-1][0]) if stack else ""

    @property
    def where(self) -> str:
        return f"{self.operator} in " + (f"'{self.module}'" if self.module else "the model's forward")

    def arg(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    def labels(self, name: str) -> Labels:
        """Labels of a tensor argument."""
        return self.labels_of(self.arguments[name])

    def labels_of(self, node: fx.Node) -> Labels:
        """Labels along one dimension; spread ones are settled now."""
        return self._one_dimension(self.raw_of(node))

    def raw(self, name: str) -> One:
        """Labels of a tensor argument as they are, perhaps along several dimensions."""
        return self.raw_of(self.arguments[name])

    def raw_of(self, node: fx.Node) -> One:
        value = self.value_of(node)
        assert isinstance(value, (Labels, Spread)), f"{node} is not one tensor"
        return value

    def labels_along(self, name: str, dim: int) -> Tensor | None:
        """Labels of a tensor argument along `dim`, (size,); None where they run along another dimension."""
        return self._one_dimension(self.raw(name), dim % max(self.raw(name).ndim, 1)).vector_along(dim)

    def _one_dimension(self, value: One, prefer: int | None = None) -> Labels:
        if isinstance(value, Labels):
            return value
        return value.settle(self.trace.ledger, f"{self.where} folds a constant into channels", prefer)

    def value_of(self, node: fx.Node) -> Value:
        state = self.state_name(node)
        return self.trace.values.get(node) if state is None else self.trace.state_labels(state)

    def state_name(self, node: Any) -> str | None:
        """Name of the parameter or buffer that `node` is, if it is one."""
        return self.trace.program.states.get(node.name) if isinstance(node, fx.Node) else None

    def inputs(self) -> list[Labels]:
        """Labels of all tensor inputs, in order, each along one dimension; lists are flattened."""
        return [self._one_dimension(value) for value in self.raw_inputs()]

    def raw_inputs(self) -> list[One]:
        """Labels of all tensor inputs, in order, as they are; lists are flattened."""
        found: list[One] = []
        for node in self.node.all_input_nodes:
            value = self.value_of(node)
            found += [value] if isinstance(value, (Labels, Spread)) else value or []
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shapes[0]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Sizes of the output tensors, in order."""
        return [tuple(int(size) for size in tensor.shape) for tensor in _tensors(self.node.meta.get("val"))]

    def constants(self) -> Value:
        """Outputs that come from no channel."""
        outputs = [Labels.uniform(shape) for shape in self.shapes]
        if isinstance(self.node.meta.get("val"), Tensor):
            return outputs[0]
        return outputs or None

    def freeze(self, labels: One | Tensor, why: str) -> None:
        vector = labels if isinstance(labels, Tensor) else _all_labels(labels)
        self.trace.ledger.freeze(vector, f"{self.where} {why}")

    def unite(self, left: Tensor, right: Tensor, why: str = "meets a constant") -> None:
        self.trace.ledger.unite(left, right, f"{self.where} {why}")

    def spread(self, labels: Tensor) -> One:
        """Labels (int64, any shape) that may vary along several dimensions."""
        return self.trace.opened(gathered(labels))

    def whole(self, value: One, dims: Collection[int]) -> One | None:
        """The labels where an operator needs `dims` (from the front or the back) as they are.

        Channels that run along other dimensions too are tied along these and go together; None where
        they run along no other: they must stay.
        """
        dims = {dim % max(value.ndim, 1) for dim in dims}
        if isinstance(value, Labels):
            return None if value.dim in dims else value
        along = varying(value.tensor)
        inside = [dim for dim in along if dim in dims]
        if len(inside) == len(along):
            return None
        return self.spread(tied(value.tensor, inside, self.trace.ledger, f"{self.where} meets a constant"))

    def settle(self, labels: Tensor, prefer: int | None = None) -> Labels:
        reason = f"{self.where} folds a constant into channels"
        return settle(labels, self.trace.ledger, reason, prefer)

    def give_up(self, why: str) -> Value:
        """Freeze every channel that comes in; what goes out comes from no channel."""
        for labels in self.raw_inputs():
            self.freeze(labels, why)
        return self.constants()

    def like(self, value: One) -> Value:
        """Every output of the input's rank carries its labels, on the output's own size."""
        if isinstance(value, Spread) and self.shapes == [value.shape]:
            return value
        labels = self._one_dimension(value)
        dim, shapes = labels.dim, self.shapes
        if dim is not None and any(len(s) != labels.ndim or s[dim] != labels.shape[dim] for s in shapes):
            return self.give_up("changes the number of channels")
        outputs = [labels.reshaped(shape) for shape in self.shapes]
        return outputs[0] if isinstance(self.node.meta.get("val"), Tensor) else list(outputs)


def names(text: str) -> list[str]:
    """Names written as words in one string."""
    return text.split()


def is_constant(labels: One) -> bool:
    return isinstance(labels, Labels) and labels.dim is None and int(labels.vector[0]) == CONSTANT


def operator_name(node: fx.Node) -> str:
    """'aten.conv2d' for aten.conv2d.padding; the plain name for anything else."""
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target.overloadpacket).replace("::", ".")
    return getattr(node.target, "__name__", str(node.target))


def _bind(node: fx.Node) -> dict[str, Any]:
    if not isinstance(node.target, torch._ops.OpOverload):
        return dict(node.kwargs)
    schema = node.target._schema.arguments
    bound = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    bound.update(zip((argument.name for argument in schema), node.args, strict=False))
    return {**bound, **node.kwargs}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
