"""A saved network from its two files and a fresh instance of its class: no tracing, no pickle, no code."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from autoprune.errors import PlanError, listed, unknown_name
from autoprune.graph.capture import aliases, named_state
from autoprune.graph.geometry import update_attributes
from autoprune.graph.remembered import lengths, remembered, set_sizes
from autoprune.graph.slicing import install
from autoprune.graph.state import persistent_names
from autoprune.plan.record import Plan, class_name
from autoprune.plan.saving import read_plan, read_weights

Shapes = dict[str, tuple[int, ...]]


def load(model: nn.Module, folder: str | Path) -> nn.Module:
    """Turn `model`, a fresh dense instance of the class, into the saved network; returned in eval mode.

    Its tensors are replaced, on the device where they were. Everything is validated first: when
    PlanError is raised, the model is as it was.
    """
    if not isinstance(model, nn.Module):
        name = getattr(model, "__name__", type(model).__name__)
        raise PlanError(f"load wants a fresh dense network, got {name}; pass an instance, such as {name}().")
    plan = read_plan(folder)
    weights = read_weights(folder, plan)
    state = named_state(model)
    shapes = _sliced_shapes(plan, model, state)
    _check_attributes(plan, model)
    stored = set(persistent_names(model))
    _check_weights(plan, weights, {name: state[name] for name in stored}, shapes)
    tensors = {name: weights[name] if name in stored else _sliced(plan, name, state[name]) for name in state}
    _install(model, tensors, touched=set(plan.tensors))
    set_sizes(model, plan.attributes)
    return model.eval()


def _sliced_shapes(plan: Plan, model: nn.Module, state: Mapping[str, Tensor]) -> Shapes:
    """Shape of every state tensor after slicing; PlanError where the plan does not fit the model."""
    _check_device(state)
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    for name, dim, indices in plan.sites():
        if name not in state:
            raise PlanError(
                f"the plan (of a {plan.model}) does not fit: {unknown_name('tensor', name, state)}"
            )
        problem = _problem(state[name], dim, indices)
        if problem:
            raise PlanError(
                f"the plan does not fit tensor '{name}' of size {list(state[name].shape)}: {problem}. "
                f"Pass a fresh {plan.model}, not yet pruned; got a {class_name(model)}."
            )
        shapes[name][dim] = len(indices)
    return {name: tuple(shape) for name, shape in shapes.items()}


def _check_attributes(plan: Plan, model: nn.Module) -> None:
    """PlanError unless every attribute counts heads or channels of the fresh model, and none grows."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, sizes in plan.attributes.items():
        if path not in modules:
            problem = unknown_name("module", path, modules)
            raise PlanError(f"the plan (of a {plan.model}) does not fit: {problem}")
        own = {**lengths(modules[path]), **remembered(modules[path])}
        for name, value in sizes.items():
            if name not in own or value > own[name]:
                raise PlanError(
                    f"the plan does not fit module '{path}': wanted an attribute '{name[:60]}' of at least "
                    f"{value} that counts heads or channels, got {own.get(name)}. "
                    f"Pass a fresh {plan.model}, not yet pruned."
                )


def _check_device(state: Mapping[str, Tensor]) -> None:
    if any(tensor.is_meta for tensor in state.values()):
        raise PlanError("the model is on the meta device and holds no values; create it on a real one.")


def _problem(tensor: Tensor, dim: int, indices: list[int]) -> str | None:
    if dim >= tensor.dim():
        return f"it has no dimension {dim}"
    if indices[-1] >= tensor.shape[dim]:
        return f"index {indices[-1]} is beyond dimension {dim}"
    rising = all(low < high for low, high in pairwise(indices))
    return None if rising else f"indices of dimension {dim} are not strictly rising"


def _check_weights(
    plan: Plan, weights: Mapping[str, Tensor], state: Mapping[str, Tensor], shapes: Shapes
) -> None:
    wrong = [
        f"{name} (wanted {_kind(state[name].dtype, shapes[name])}, got {_kind(value.dtype, value.shape)})"
        for name, value in weights.items()
        if name in state and (value.dtype, tuple(value.shape)) != (state[name].dtype, shapes[name])
    ]
    found = {
        "missing": [name for name in state if name not in weights],
        "unexpected": [name for name in weights if name not in state],
        "of the wrong type or size": wrong,
    }
    problems = [f"{len(names)} {what}: {listed(names)}" for what, names in found.items() if names]
    if problems:
        raise PlanError(f"the saved weights of a {plan.model} do not fit the model; {'; '.join(problems)}.")


def _kind(dtype: torch.dtype, shape: Iterable[int]) -> str:
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}"


def _sliced(plan: Plan, name: str, tensor: Tensor) -> Tensor:
    """A buffer that no state dict holds keeps the fresh instance's values."""
    for dim, indices in plan.tensors.get(name, {}).items():
        index = torch.tensor(indices, device=tensor.device)
        tensor = tensor.detach().index_select(int(dim), index)
    return tensor


def _install(model: nn.Module, tensors: Mapping[str, Tensor], touched: set[str]) -> None:
    """Put every tensor under all its names, then bring the sizes of the sliced modules in line."""
    state, names = named_state(model), aliases(model)
    owners = {name.rpartition(".")[0] for name, first in names.items() if first in touched}
    dense = {path: _twin(model.get_submodule(path)) for path in owners}
    entries = {first: _like(state[first], tensor) for first, tensor in tensors.items()}
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, first in names.items():
        install(modules, name, entries[first])
    for path, twin in dense.items():
        update_attributes(model.get_submodule(path), twin)


def _like(original: Tensor, tensor: Tensor) -> Tensor:
    moved = tensor.detach().to(original.device)
    if isinstance(original, nn.Parameter):
        return nn.Parameter(moved, requires_grad=original.requires_grad)
    return moved


def _twin(module: nn.Module) -> nn.Module:
    """The module with its present tensors and sizes; a plain copy would share the table of parameters."""
    twin = copy.copy(module)
    twin._parameters, twin._buffers = dict(module._parameters), dict(module._buffers)
    return twin
