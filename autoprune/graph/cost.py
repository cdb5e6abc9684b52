"""Cost: MACs, parameters and bytes as exact functions of the kept widths.

Every dimension of every tensor is affine in the kept counts, so the element count of a tensor is a
product of a few affine forms; MACs, parameters and bytes are linear in the element counts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from autoprune.errors import ConfigError, unknown_name
from autoprune.graph.capture import evaluation_mode, named_state
from autoprune.graph.groups import ChannelGraph
from autoprune.graph.state import persistent_names

_CHUNK = 1024


@dataclass(frozen=True)
class Costs:
    """Exact integers, each of shape (candidates,): for one input, and for the whole state."""

    macs: np.ndarray
    params: np.ndarray
    bytes: np.ndarray


class CostModel:
    """Costs of candidates from the number of channels kept in each group, in the graph's group order."""

    def __init__(
        self,
        model: nn.Module,
        graph: ChannelGraph,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.names = tuple(group.name for group in graph.groups)
        self._widths = np.array([group.width for group in graph.groups], dtype=np.int64)
        state = named_state(model)
        per_element = _per_element(model, graph)
        self._tensors = _Tensors(
            graph, {name: tuple(tensor.shape) for name, tensor in state.items()}, per_element
        )
        self._constant = np.zeros(3, dtype=np.int64)
        dense = np.array([count_macs(model, args, kwargs), _params(model), _bytes(model)], dtype=np.int64)
        self._constant = dense - self._tensors.evaluate(self._widths[None])[0]
        self.dense_macs, self.dense_params, self.dense_bytes = (int(value) for value in dense)

    def evaluate(self, kept_counts: np.ndarray) -> Costs:
        """Costs of many candidates; `kept_counts` has shape (candidates, groups)."""
        counts = np.asarray(kept_counts, dtype=np.int64)
        if counts.ndim != 2 or counts.shape[1] != len(self.names):
            raise ConfigError(
                f"wanted kept counts of shape (candidates, {len(self.names)}), one column per channel group "
                f"in the graph's order; got shape {counts.shape}."
            )
        if counts.size and ((counts < 0) | (counts > self._widths)).any():
            raise ConfigError("wanted kept counts between 0 and each group's width; got some outside.")
        removed = self._tensors.evaluate(counts) + self._constant
        return Costs(removed[:, 0], removed[:, 1], removed[:, 2])

    def macs(self, widths: Mapping[str, int]) -> int:
        """MACs of one candidate; a group that is missing from `widths` stays dense."""
        return int(self.evaluate(self.counts(widths)).macs[0])

    def params(self, widths: Mapping[str, int]) -> int:
        return int(self.evaluate(self.counts(widths)).params[0])

    def bytes(self, widths: Mapping[str, int]) -> int:
        """Bytes of the state dict: parameters and persistent buffers."""
        return int(self.evaluate(self.counts(widths)).bytes[0])

    def counts(self, widths: Mapping[str, int]) -> np.ndarray:
        """Kept counts in the graph's order, shape (1, groups)."""
        for name in widths:
            if name not in self.names:
                raise ConfigError(unknown_name("channel group", name, self.names))
        return np.array(
            [[widths.get(n, w) for n, w in zip(self.names, self._widths, strict=True)]], dtype=np.int64
        )


class _Tensors:
    """Element counts of all sliced tensors as products of affine forms; equal ones are merged.

    What a unit costs without tensors, in products of activations, is added to the MACs.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        shapes: Mapping[str, tuple[int, ...]],
        per_element: Mapping[str, np.ndarray],
    ) -> None:
        forms: dict[str, dict[int, np.ndarray]] = {}
        for column, group in enumerate(graph.groups):
            for member in group.members:
                form = forms.setdefault(member.tensor, {}).setdefault(member.dim, np.zeros(len(graph.groups)))
                form[column] += member.positions.shape[1]
        merged: dict[tuple[Any, ...], np.ndarray] = {}
        for name, dims in forms.items():
            fixed = int(
                np.prod([size for dim, size in enumerate(shapes[name]) if dim not in dims], dtype=np.int64)
            )
            parts = sorted((shapes[name][dim], form.tobytes()) for dim, form in dims.items())
            key = tuple(parts)
            merged[key] = merged.get(key, np.zeros(3)) + fixed * per_element[name]
        self._widths = np.array([group.width for group in graph.groups], dtype=np.float64)
        self._factors = _factors(list(merged), len(graph.groups))
        self._weights = np.array(list(merged.values()), dtype=np.float64).reshape(len(merged), 3)
        self._per_unit = np.array([group.macs_per_unit for group in graph.groups], dtype=np.int64)

    def evaluate(self, counts: np.ndarray) -> np.ndarray:
        """(candidates, groups) -> MACs, parameters and bytes of the sliced tensors, (candidates, 3) int64.

        Floating point is exact here: sizes are integers below 2**24, everything else is below 2**53.
        """
        blocks = [self._block(counts[i : i + _CHUNK]) for i in range(0, len(counts), _CHUNK)]
        return np.concatenate(blocks) if blocks else np.zeros((0, 3), dtype=np.int64)

    def _block(self, counts: np.ndarray) -> np.ndarray:
        removed = (self._widths - counts).astype(np.float32)
        elements = np.ones((len(counts), len(self._weights)))
        for sizes, forms in self._factors:
            elements *= sizes - removed @ forms
        costs = np.rint(elements @ self._weights).astype(np.int64)
        costs[:, 0] += counts @ self._per_unit
        return costs


def _factors(keys: list[tuple[Any, ...]], groups: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For the first, second, ... sliced dimension of the tensors: sizes, (groups, tensors) per channel."""
    factors = []
    for place in range(max(map(len, keys), default=0)):
        sizes = np.array([key[place][0] if place < len(key) else 1 for key in keys], dtype=np.float64)
        forms = [np.frombuffer(key[place][1]) if place < len(key) else np.zeros(groups) for key in keys]
        factors.append((sizes, np.stack(forms, axis=1).astype(np.float32)))
    return factors


def _per_element(model: nn.Module, graph: ChannelGraph) -> dict[str, np.ndarray]:
    """MACs, parameters and bytes that one element of each tensor costs."""
    macs = {layer.weight: layer.macs_per_weight for layer in graph.layers}
    parameters, stored = dict(model.named_parameters()), set(persistent_names(model))
    return {
        name: np.array(
            [macs.get(name, 0), name in parameters, tensor.element_size() * (name in stored)],
            dtype=np.float64,
        )
        for name, tensor in named_state(model).items()
    }


def _params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _bytes(model: nn.Module) -> int:
    state = named_state(model)
    return sum(state[name].numel() * state[name].element_size() for name in persistent_names(model))


def count_macs(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> int:
    """MACs of one call, counted on the meta device, or by a real call where the model cannot run there."""
    kwargs = dict(kwargs or {})
    try:
        return _count(_on_meta(model), *_to_meta((args, kwargs)))
    except Exception:  # whatever the meta device lacks; what is wrong with the model itself shows below
        # The counter does not know the processor's fused attention; it knows the products it is made of.
        with sdpa_kernel(SDPBackend.MATH):
            return _count(model, args, kwargs)


def _count(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    # Imported here: it loads Triton, and what only reads studies counts nothing.
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    # With gradients on, torch keeps to operators the counter knows (torchvision's attention has a fused one).
    with evaluation_mode(model), torch.enable_grad(), counter:
        model(*args, **kwargs)
    return int(counter.get_total_flops()) // 2


def _on_meta(model: nn.Module) -> nn.Module:
    memo: dict[int, Any] = {}
    for tensor in named_state(model).values():
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_parameter else empty
    return copy.deepcopy(model, memo)


def _to_meta(tree: Any) -> Any:
    return pytree.tree_map_only(Tensor, lambda tensor: torch.empty_like(tensor, device="meta"), tree)
