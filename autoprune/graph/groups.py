"""The words of the graph: channel groups, the layers around them, and what is frozen.

Everything downstream (cost, slicing, statistics, reconstruction) reads these records; only
`find_groups` writes them. All positions are integer indices into one dimension of one tensor of the
model's state (parameter or buffer), so that slicing a candidate is a handful of `index_select`s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import torch
from torch import Tensor

from autoprune.errors import ConfigError, unknown_name

Kept = Mapping[str, Tensor]
"""Group name -> sorted int64 indices of the channels that stay. A missing group stays dense."""


class Role(Enum):
    """What a tensor dimension is to the group whose channels run along it."""

    PRODUCER = "producer"  # rows of a weight (and bias) that compute the channels
    CONSUMER = "consumer"  # columns of a weight that read the channels
    FOLLOWER = "follower"  # per-channel state in between: norm, depthwise weight, scale


@dataclass(frozen=True)
class Member:
    """One dimension of one state tensor along which a group's channels run.

    `positions` has shape (width, multiplicity), int64: row c holds the indices along `dim` that
    belong to channel c (more than one after a flatten, or in a grouped convolution). A tensor that is used
    in several ways has `further` roles: that of a tied autoencoder computes the code, and reads it.
    """

    tensor: str
    dim: int
    role: Role
    positions: Tensor
    further: frozenset[Role] = frozenset()

    @property
    def roles(self) -> frozenset[Role]:
        return self.further | {self.role}


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can each be removed, and what must be removed with them.

    `width` counts the units of removal; a unit is one channel, or several that are tied together
    (the same position of every group of a grouped convolution, the channels of an attention head).
    `macs_per_unit` counts what each unit costs beside the layers: the products of its attention head.
    """

    name: str
    width: int
    members: tuple[Member, ...]
    macs_per_unit: int = 0

    def of_role(self, role: Role) -> tuple[Member, ...]:
        return tuple(member for member in self.members if role in member.roles)


@dataclass(frozen=True)
class Attribute:
    """An integer that a module remembers, such as `num_heads`: so many for each unit of some groups (name,
    number), and `fixed` for channels that stay dense."""

    module: str
    name: str
    per_unit: tuple[tuple[str, int], ...]
    fixed: int = 0

    def value(self, widths: Mapping[str, int]) -> int:
        """What it is where groups have these widths."""
        return self.fixed + sum(widths[group] * each for group, each in self.per_unit)

    def without(self, frozen: Mapping[str, int]) -> Attribute:
        """The same where groups stay dense that have these widths."""
        fixed = sum(frozen.get(group, 0) * each for group, each in self.per_unit)
        left = tuple(item for item in self.per_unit if item[0] not in frozen)
        return Attribute(self.module, self.name, left, self.fixed + fixed)


@dataclass(frozen=True)
class FrozenGroup:
    """Channels that stay dense, the reason, and where in the model the reason lies."""

    name: str
    width: int
    reason: str


class LayerKind(Enum):
    CONV = "convolution"
    CONV_TRANSPOSE = "transposed convolution"
    LINEAR = "linear"
    PRODUCT = "product with a matrix"

    @property
    def inputs_first(self) -> bool:
        """Whether the weight holds its inputs before its outputs (see `outputs_first`)."""
        return self in (LayerKind.CONV_TRANSPOSE, LayerKind.PRODUCT)

    @property
    def channels_last(self) -> bool:
        """Whether channels run along the last dimension of what comes in and goes out, and not the second."""
        return self in (LayerKind.LINEAR, LayerKind.PRODUCT)


@dataclass(frozen=True)
class Layer:
    """One weighted operator: a convolution, a linear map or a product with a matrix, in order of execution.

    MACs of the layer are `weight.numel() * macs_per_weight` for one input, also when sliced.
    `norm` names a batch-norm module that alone reads the layer's output: it can absorb a bias.
    `alone`: no operator of another kind reads its weight or bias, as an embedding that is tied to it does.
    """

    name: str
    kind: LayerKind
    weight: str
    bias: str | None
    shape: tuple[int, ...]
    groups: int
    macs_per_weight: int
    norm: str | None = None
    alone: bool = True

    @property
    def inputs_dim(self) -> int:
        """Dimension of the weight along which its columns stand, one for each channel that it reads."""
        return 0 if self.kind.inputs_first and self.groups == 1 else 1

    @property
    def outputs_dim(self) -> int:
        """Dimension of the weight along which its rows stand, one for each channel that it computes."""
        return 1 - self.inputs_dim


@dataclass(frozen=True)
class ChannelGraph:
    """What `find_groups` learned about a model. `layers` stand in order of execution."""

    groups: tuple[ChannelGroup, ...]
    frozen: tuple[FrozenGroup, ...]
    layers: tuple[Layer, ...]
    attributes: tuple[Attribute, ...] = ()

    @cached_property
    def _by_name(self) -> dict[str, ChannelGroup]:
        return {group.name: group for group in self.groups}

    @cached_property
    def _consumers(self) -> dict[str, tuple[Layer, ...]]:
        return _layers_of(self.groups, self.layers, Role.CONSUMER)

    @cached_property
    def _producers(self) -> dict[str, tuple[Layer, ...]]:
        return _layers_of(self.groups, self.layers, Role.PRODUCER)

    @cached_property
    def _read_by(self) -> dict[str, list[ChannelGroup]]:
        found: dict[str, list[ChannelGroup]] = {}
        for group in self.groups:
            for layer in self._consumers[group.name]:
                found.setdefault(layer.name, []).append(group)
        return found

    def __getitem__(self, name: str) -> ChannelGroup:
        try:
            return self._by_name[name]
        except KeyError:
            raise ConfigError(unknown_name("channel group", name, self._by_name)) from None

    @property
    def widths(self) -> dict[str, int]:
        return {group.name: group.width for group in self.groups}

    def consumers(self, group: ChannelGroup) -> tuple[Layer, ...]:
        """Layers whose weight has columns in the group, in order of execution."""
        return self._consumers[group.name]

    def producers(self, group: ChannelGroup) -> tuple[Layer, ...]:
        """Layers whose weight has rows in the group, in order of execution."""
        return self._producers[group.name]

    def read_by(self, layer: Layer) -> Sequence[ChannelGroup]:
        """Groups that the layer's weight has columns in."""
        return self._read_by.get(layer.name, [])

    def sizes(self, kept: Kept) -> dict[str, dict[str, int]]:
        """Module -> attribute -> what it must be for a candidate."""
        found: dict[str, dict[str, int]] = {}
        widths = {**self.widths, **{name: len(channels) for name, channels in kept.items()}}
        for item in self.attributes:
            found.setdefault(item.module, {})[item.name] = item.value(widths)
        return found

    def all_kept(self) -> dict[str, Tensor]:
        """The dense network as a candidate: every channel of every group."""
        return {group.name: torch.arange(group.width) for group in self.groups}


def _layers_of(
    groups: Sequence[ChannelGroup], layers: Sequence[Layer], role: Role
) -> dict[str, tuple[Layer, ...]]:
    """Layers whose weight a group has rows (producers) or columns (consumers) in, by the group's name."""
    at: dict[tuple[str, int], list[int]] = {}
    for number, layer in enumerate(layers):
        dim = layer.inputs_dim if role is Role.CONSUMER else layer.outputs_dim
        at.setdefault((layer.weight, dim), []).append(number)
    found: dict[str, tuple[Layer, ...]] = {}
    for group in groups:
        numbers = {n for member in group.of_role(role) for n in at.get((member.tensor, member.dim), ())}
        found[group.name] = tuple(layers[number] for number in sorted(numbers))
    return found
