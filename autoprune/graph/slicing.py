"""Slicing: from kept channels to a smaller network of the user's own class.

A candidate is a mapping from group name to the sorted indices of its kept channels; a group that is
missing stays dense. Slicing is one `index_select` per tensor dimension.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError, PlanError, unknown_name
from autoprune.graph.capture import aliases, named_state
from autoprune.graph.geometry import update_attributes
from autoprune.graph.groups import ChannelGraph, Kept, Layer, Member, Role
from autoprune.graph.remembered import set_sizes

Sites = dict[tuple[str, int], list[tuple[str, Member]]]
"""(tensor, dimension) -> the groups and members that run along it."""


def validate_kept(graph: ChannelGraph, kept: Kept) -> None:
    """Raise ConfigError for an unknown group, PlanError unless indices are int64, sorted and in range."""
    for name, indices in kept.items():
        if name not in graph.widths:
            raise ConfigError(unknown_name("channel group", name, graph.widths))
        problem = _problem(indices, graph[name].width)
        if problem:
            raise PlanError(
                f"group '{name}': wanted between 1 and {graph[name].width} sorted, distinct channel indices; "
                f"got {problem}. Sort the indices and keep at least one channel."
            )


def _problem(indices: Tensor, width: int) -> str | None:
    if indices.dtype != torch.int64 or indices.dim() != 1:
        return f"a tensor of type {indices.dtype} and size {tuple(indices.shape)}, not one list of int64"
    if indices.numel() == 0:
        return "none"
    # In NumPy, see `positions_kept`.
    values = indices.numpy(force=True)
    if values.min() < 0 or values.max() >= width:
        return f"indices from {values.min()} to {values.max()}"
    return None if bool((np.diff(values) > 0).all()) else "indices that are not strictly rising"


def member_sites(graph: ChannelGraph) -> Sites:
    """Where each tensor is sliced: several groups may run along parts of one dimension."""
    sites: Sites = defaultdict(list)
    for group in graph.groups:
        for member in group.members:
            sites[member.tensor, member.dim].append((group.name, member))
    return dict(sites)


def positions_kept(size: int, members: list[tuple[str, Member]], kept: Kept) -> Tensor:
    """Sorted indices, int64, of the `size` positions of a dimension that stay."""
    # In NumPy: a candidate asks hundreds of times, and torch's own cost per call would be seen.
    stays = np.ones(size, dtype=np.bool_)
    for name, member in members:
        if name in kept:
            positions = member.positions.numpy()
            stays[positions.reshape(-1)] = False
            stays[positions[kept[name].numpy()].reshape(-1)] = True
    return torch.from_numpy(np.flatnonzero(stays))


def layer_positions(graph: ChannelGraph, layer: Layer, kept: Kept) -> tuple[Tensor, Tensor]:
    """Sorted indices kept along dimension 0 and dimension 1 of the layer's weight, int64."""
    found: list[Tensor] = []
    for dim in (0, 1):
        members = [
            (group.name, member)
            for group in graph.groups
            for member in group.members
            if member.tensor == layer.weight and member.dim == dim
        ]
        found.append(positions_kept(layer.shape[dim], members, kept))
    return found[0], found[1]


def mask_consumers(model: nn.Module, graph: ChannelGraph, kept: Kept) -> None:
    """Zero, in place, every weight column that reads a removed channel. `model` is the caller's copy."""
    state = named_state(model)
    for (tensor, dim), members in member_sites(graph).items():
        readers = [item for item in members if Role.CONSUMER in item[1].roles]
        if readers:
            size = state[tensor].shape[dim]
            gone = torch.ones(size, dtype=torch.bool)
            gone[positions_kept(size, readers, kept)] = False
            with torch.no_grad():
                state[tensor].index_fill_(dim, gone.nonzero().reshape(-1).to(state[tensor].device), 0)


class Slicer:
    """Slices one model by one graph; the model itself is never changed."""

    def __init__(self, model: nn.Module, graph: ChannelGraph) -> None:
        self.model = model
        self.graph = graph
        self._sites = member_sites(graph)
        state = named_state(model)
        self._runs = {
            site: _Run(state[site[0]].shape[site[1]], members) for site, members in self._sites.items()
        }
        self._names: dict[str, list[str]] = defaultdict(list)
        for name, first in aliases(model).items():
            self._names[first].append(name)

    def state(self, kept: Kept, *, touched_only: bool = False) -> dict[str, Tensor]:
        """Every tensor that any group runs through, sliced (or copied, where its groups stay dense).

        With `touched_only`, only the tensors that a group in `kept` runs through.
        """
        validate_kept(self.graph, kept)
        state = named_state(self.model)
        touched = {member.tensor for name in kept for member in self.graph[name].members}
        sliced: dict[str, Tensor] = {}
        there = _Indices()
        for (name, dim), run in self._runs.items():
            if touched_only and name not in touched:
                continue
            tensor = sliced.get(name, state[name].detach())
            sliced[name] = tensor.index_select(dim, there.index(run, kept, tensor.device))
        return sliced

    def apply(self, module: nn.Module, tensors: Mapping[str, Tensor], kept: Kept) -> None:
        """Install `tensors` in `module`, a structural copy of the model, and set its modules' sizes.

        Can be repeated with another candidate on the same module. A parameter stays a parameter, with
        the original's `requires_grad`; tied names keep sharing one tensor. `kept` says what modules
        remember of it beside their tensors.
        """
        validate_kept(self.graph, kept)
        state = named_state(self.model)
        owners = dict(module.named_modules(remove_duplicate=False))
        for first, tensor in tensors.items():
            if first not in self._names:
                raise PlanError(unknown_name("tensor", first, self._names))
            entry = _like(state[first], tensor)
            for name in self._names[first]:
                install(owners, name, entry)
        originals = dict(self.model.named_modules(remove_duplicate=False))
        for path in {name.rpartition(".")[0] for first in tensors for name in self._names[first]}:
            update_attributes(owners[path], originals[path])
        set_sizes(module, self.graph.sizes(kept))

    def build(self, kept: Kept, tensors: Mapping[str, Tensor] | None = None) -> nn.Module:
        """A new module of the user's class holding the sliced weights, or `tensors` where given.

        No full copy of the weights is made on the way.
        """
        sliced = {**self.state(kept), **(tensors or {})}
        state = named_state(self.model)
        unknown = sorted(set(sliced) - set(state))
        if unknown:
            raise PlanError(unknown_name("tensor", unknown[0], state))
        memo: dict[int, object] = {
            id(state[name]): _like(state[name], tensor) for name, tensor in sliced.items()
        }
        module: nn.Module = copy.deepcopy(self.model, memo)
        for name, submodule in _owners(module, {name for first in sliced for name in self._names[first]}):
            update_attributes(submodule, self.model.get_submodule(name))
        set_sizes(module, self.graph.sizes(kept))
        return module


class _Run:
    """What runs along one dimension of a tensor; with equal keys, the same positions stay for any `kept`."""

    def __init__(self, size: int, members: list[tuple[str, Member]]) -> None:
        self.size, self.members = size, members
        self.key = size, tuple((name, member.positions.numpy().tobytes()) for name, member in members)


class _Indices:
    """The kept positions of one candidate, where its tensors are: found, and copied there, once for all
    tensors that share them."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, torch.device], Tensor] = {}

    def index(self, run: _Run, kept: Kept, device: torch.device) -> Tensor:
        key = run.key, device
        if key not in self._found:
            self._found[key] = positions_kept(run.size, run.members, kept).to(device)
        return self._found[key]


def _owners(module: nn.Module, names: set[str]) -> Iterator[tuple[str, nn.Module]]:
    for path in sorted({name.rpartition(".")[0] for name in names}):
        yield path, module.get_submodule(path)


def _like(original: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` as the kind of state that `original` is."""
    if isinstance(original, nn.Parameter):
        return nn.Parameter(tensor.detach(), requires_grad=original.requires_grad)
    return tensor.detach()


def install(owners: Mapping[str, nn.Module], name: str, tensor: Tensor) -> None:
    """Put a parameter or buffer under its full name, whatever its size; `owners` are the modules by path."""
    path, _, leaf = name.rpartition(".")
    owner = owners[path]
    table = owner._parameters if leaf in owner._parameters else owner._buffers
    table[leaf] = tensor  # type: ignore[assignment]
