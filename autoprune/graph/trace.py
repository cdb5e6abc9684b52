"""Trace: what all rules write to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor, fx

from autoprune.graph.capture import Program
from autoprune.graph.groups import Layer, Role
from autoprune.graph.labels import Classes, Labels, Ledger
from autoprune.graph.spread import Spread, class_numbers, narrowed, settle_all, varying

One = Labels | Spread
"""One labelled activation."""

Value = One | Sequence[One] | None
"""What a node yields: one labelled activation, several, or nothing that is a tensor."""


@dataclass(frozen=True)
class Attachment:
    """A dimension of a state tensor whose indices carry channel labels, `vector` of shape (size,).

    What several operators use may have `further` roles.
    """

    tensor: str
    dim: int
    role: Role
    vector: Tensor
    further: frozenset[Role] = frozenset()


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
class Counted:
    """Channels that the module of this path counts by an integer of its own: those of a reshape that makes or
    unmakes the dimension of spread labels, or of a norm without tensors."""

    module: str
    labels: Tensor


@dataclass(frozen=True)
class Part:
    """Channels `vector`, (size,), that the module of this path may know the number of."""

    module: str
    vector: Tensor


class Trace:
    """Labels of every node visited so far, and the dimensions of state tensors they are tied to."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ledger = Ledger()
        self.values: dict[fx.Node, Value] = {}
        self.attachments: dict[tuple[str, int], Attachment] = {}
        self.layers: dict[str, Layer] = {}
        self.dense_outputs: list[DenseOutput] = []
        # Who reads a state tensor: layers by the names of their weights, other operators by their own.
        self.readers: dict[str, set[str]] = defaultdict(set)
        self._free_state: dict[str, One] = {}
        self.spreads: list[Spread] = []
        self.products: list[Product] = []
        self.counted: list[Counted] = []
        self.parts: list[Part] = []
        self._aside = False
        # Dimensions of tensors that only a program aside reads.
        self.aside_only: set[tuple[str, int]] = set()

    @contextmanager
    def aside(self, program: Program) -> Iterator[None]:
        """Inside, another program of the same model is followed, of which only what it slices is noted, and
        what its modules count."""
        before, known = dict(vars(self)), set(self.attachments)
        self.program = program
        self.layers, self.dense_outputs, self.spreads = {}, [], []
        self.products, self.counted, self.parts, self.readers = [], [], [], defaultdict(set)
        self._aside = True
        try:
            yield
        finally:
            heard = [*before["counted"], *self.counted], [*before["parts"], *self.parts]
            vars(self).update(before)
            self.counted, self.parts = heard
            self.aside_only = self.attachments.keys() - known

    def attach(self, tensor: str, dim: int, role: Role, vector: Tensor) -> None:
        """Run `vector`'s channels along `dim` of a state tensor; several uses of it are tied."""
        known = self.attachments.get((tensor, dim))
        if known is None:
            self.attachments[tensor, dim] = Attachment(tensor, dim, role, vector)
        else:
            self.attachments[tensor, dim] = replace(known, further=known.further | {role})
            self.ledger.unite(known.vector, vector, f"'{tensor}' is shared with channels that stay dense")

    def state_labels(self, name: str) -> One:
        """Fresh labels of a state tensor used outside a layer; of a large one, along its widest dimension."""
        if self.ledger.lenient and not self._aside:
            return Labels.uniform(tuple(self.program.tensors[name].shape))
        if name not in self._free_state:
            self._free_state[name] = self.opened(_fresh_labels(self.program.tensors[name], self.ledger))
        return self._free_state[name]

    def known_layers(self) -> Iterator[Layer]:
        """In order of execution."""
        for layer in self.layers.values():
            readers = self.readers[layer.weight] | self.readers[layer.bias or ""] | {layer.weight}
            elsewhere = {layer.weight, layer.bias} & self._free_state.keys()
            yield replace(layer, alone=layer.alone and len(readers) == 1 and not elsewhere)

    def opened(self, value: One) -> One:
        """The value, noted where labels vary along several dimensions: in the end along one."""
        if isinstance(value, Spread) and (self._aside or not self.ledger.lenient):
            self.spreads.append(value)
        return value

    def close(self) -> None:
        """Settle what is spread, attach state tensors used outside layers, freeze those used both ways."""
        for name, value in self._free_state.items():
            both = [item for (tensor, _), item in self.attachments.items() if tensor == name]
            if both and value.ndim > 1:
                for vector in (all_labels(value), *(item.vector for item in both)):
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


def all_labels(value: One) -> Tensor:
    return value.vector if isinstance(value, Labels) else value.tensor


def _settled(value: Spread, classes: Classes) -> Labels:
    """The labels along the one dimension that is left."""
    dims = varying(class_numbers(value.tensor, classes))
    others = [dim for dim in range(value.ndim) if dim not in dims]
    vector = narrowed(value.tensor, others).reshape(-1)
    return Labels(value.shape, dims[0] if dims else None, vector.clone())
