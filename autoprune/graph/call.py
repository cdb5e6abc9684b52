"""Call: what an operator's rule sees of one node of the graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.graph.labels import CONSTANT, Labels, settle
from autoprune.graph.spread import Spread, gathered, tied, varying
from autoprune.graph.trace import One, Part, Trace, Value, all_labels

Rule = Callable[["Call"], Value]

FORWARD = "the model's forward"
"""Where a call stands that is in no submodule."""


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
        return f"{self.operator} in " + (f"'{self.module}'" if self.module else FORWARD)

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

    def counts(self, vector: Tensor) -> None:
        """The innermost module may know by an integer of its own how many channels these are."""
        self.trace.parts.append(Part(self.module, vector))

    def constants(self) -> Value:
        """Outputs that come from no channel."""
        outputs = [Labels.uniform(shape) for shape in self.shapes]
        if isinstance(self.node.meta.get("val"), Tensor):
            return outputs[0]
        return outputs or None

    def freeze(self, labels: One | Tensor, why: str) -> None:
        vector = labels if isinstance(labels, Tensor) else all_labels(labels)
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
