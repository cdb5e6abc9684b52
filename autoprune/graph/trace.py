"""Trace: what an operator's rule sees (`Call`) and what all rules write to (`Trace`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.graph.capture import Program
from autoprune.graph.groups import Layer, Role
from autoprune.graph.labels import CONSTANT, Labels, Ledger, settle

Value = Labels | list[Labels] | None
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


class Trace:
    """Labels of every node visited so far, and the dimensions of state tensors they are tied to."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ledger = Ledger()
        self.values: dict[fx.Node, Value] = {}
        self.attachments: dict[tuple[str, int], Attachment] = {}
        self.layers: dict[str, Layer] = {}
        self.dense_outputs: list[DenseOutput] = []
        self._free_state: dict[str, Labels] = {}

    def attach(self, tensor: str, dim: int, role: Role, vector: Tensor) -> None:
        """Run `vector`'s channels along `dim` of a state tensor; several uses of it are tied."""
        known = self.attachments.get((tensor, dim))
        if known is None:
            self.attachments[tensor, dim] = Attachment(tensor, dim, role, vector)
        else:
            self.ledger.unite(known.vector, vector, f"'{tensor}' is shared with channels that stay dense")

    def state_labels(self, name: str) -> Labels:
        """Fresh labels of a state tensor used outside a layer, along its widest dimension."""
        if name not in self._free_state:
            shape = tuple(self.program.tensors[name].shape)
            widest = max(range(len(shape)), key=lambda dim: (shape[dim], dim), default=None)
            fresh = self.ledger.fresh(1 if widest is None else shape[widest])
            self._free_state[name] = Labels.along(shape, -1 if widest is None else widest, fresh)
        return self._free_state[name]

    def close(self) -> None:
        """Attach the state tensors used outside layers; freeze those used both ways."""
        for name, labels in self._free_state.items():
            both = [item for (tensor, _), item in self.attachments.items() if tensor == name]
            if both and labels.ndim > 1:
                for vector in (labels.vector, *(item.vector for item in both)):
                    self.ledger.freeze(vector, f"'{name}' is used both as a layer's weight and outside it")
            elif labels.ndim:
                dim = 0 if labels.dim is None else labels.dim
                if labels.dim is not None or labels.ndim == 1:
                    self.attach(name, dim, Role.FOLLOWER, labels.vector_along(dim))  # type: ignore[arg-type]


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
        value = self.value_of(node)
        assert isinstance(value, Labels), f"{node} is not one tensor"
        return value

    def value_of(self, node: fx.Node) -> Value:
        state = self.state_name(node)
        return self.trace.values.get(node) if state is None else self.trace.state_labels(state)

    def state_name(self, node: Any) -> str | None:
        """Name of the parameter or buffer that `node` is, if it is one."""
        return self.trace.program.states.get(node.name) if isinstance(node, fx.Node) else None

    def inputs(self) -> list[Labels]:
        """Labels of all tensor inputs, in order; lists are flattened."""
        found: list[Labels] = []
        for node in self.node.all_input_nodes:
            value = self.value_of(node)
            found += value if isinstance(value, list) else [value] if value is not None else []
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

    def freeze(self, labels: Labels | Tensor, why: str) -> None:
        vector = labels.vector if isinstance(labels, Labels) else labels
        self.trace.ledger.freeze(vector, f"{self.where} {why}")

    def unite(self, left: Tensor, right: Tensor, why: str = "meets a constant") -> None:
        self.trace.ledger.unite(left, right, f"{self.where} {why}")

    def settle(self, labels: Tensor, prefer: int | None = None) -> Labels:
        reason = f"{self.where} folds a constant into channels"
        return settle(labels, self.trace.ledger, reason, prefer)

    def give_up(self, why: str) -> Value:
        """Freeze every channel that comes in; what goes out comes from no channel."""
        for labels in self.inputs():
            self.freeze(labels, why)
        return self.constants()

    def like(self, labels: Labels) -> Value:
        """Every output of the input's rank carries its labels, on the output's own size."""
        dim, shapes = labels.dim, self.shapes
        if dim is not None and any(len(s) != labels.ndim or s[dim] != labels.shape[dim] for s in shapes):
            return self.give_up("changes the number of channels")
        outputs = [labels.reshaped(shape) for shape in self.shapes]
        return outputs[0] if isinstance(self.node.meta.get("val"), Tensor) else list(outputs)


def names(text: str) -> list[str]:
    """Names written as words in one string."""
    return text.split()


def is_constant(labels: Labels) -> bool:
    return labels.dim is None and int(labels.vector[0]) == CONSTANT


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
