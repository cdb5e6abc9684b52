"""Capture: the model as a graph of ATen operators with every shape recorded."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from autoprune.errors import ModelError
from autoprune.graph.plain import plain
from autoprune.graph.remembered import head_sizes, part_sizes
from autoprune.graph.spelling import spell

_MISSING = (
    "A vector of integers beside another input is taken for labels and left out: name the inputs, in a dict."
)
"""What may be wrong where a forward lacks an argument."""


@dataclass(frozen=True)
class Program:
    """`graph` is the ATen graph; `states` maps a placeholder node's name to a state tensor's name.

    `sizes` are the integers of heads that modules remember: module -> attribute -> value; `lengths` those by
    which they may cut channels.
    """

    graph: fx.Graph
    states: Mapping[str, str]
    tensors: Mapping[str, Tensor]
    sizes: Mapping[str, Mapping[str, int]]
    lengths: Mapping[str, Mapping[str, int]]


def evaluation_mode(model: nn.Module) -> AbstractContextManager[None]:
    """Every module in eval mode inside, each module's own training flag restored after."""
    return in_mode(model, training=False)


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Every module in training or eval mode inside, each module's own flag restored after."""
    flags = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag


@contextmanager
def unnoted(model: nn.Module) -> Iterator[None]:
    """What a forward notes on its modules inside is forgotten: a trace's tensors hold no values."""
    before = [(module, dict(vars(module)), _containers(module)) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes, containers in before:
            vars(module).clear()
            vars(module).update(attributes)
            for container, entries in containers:
                container.clear()
                fill = container.update if isinstance(container, dict | set) else container.extend
                fill(entries)


def _containers(module: nn.Module) -> list[tuple[Any, Any]]:
    """The containers that its class has added to a module, and those in them, with copies of what they
    hold."""
    values = [value for name, value in vars(module).items() if not hasattr(_BARE, name)]
    found: dict[int, tuple[Any, Any]] = {}
    while values:
        value = values.pop()
        if type(value) in _CONTAINERS and id(value) not in found:
            found[id(value)] = value, copy.copy(value)
            values.extend(value.values() if isinstance(value, dict) else value)
    return list(found.values())


_BARE = nn.Module()
_CONTAINERS = (dict, list, set, deque, OrderedDict, defaultdict)


def named_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, each under the first name it is found by (a tied tensor has several)."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def aliases(model: nn.Module) -> dict[str, str]:
    """Every name of every parameter and buffer -> the name `named_state` lists it under."""
    first = {id(tensor): name for name, tensor in named_state(model).items()}
    parameters = model.named_parameters(remove_duplicate=False)
    buffers = model.named_buffers(remove_duplicate=False)
    return {name: first[id(tensor)] for source in (parameters, buffers) for name, tensor in source}


def capture(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool = False,
) -> Program:
    """Trace `model` in eval mode, or in training mode. The model is not changed; a forward that fails is a
    ModelError."""
    try:
        with in_mode(model, training), unnoted(model), warnings.catch_warnings(), unlogged():
            warnings.simplefilter("ignore")
            program = _exported(model, args, dict(kwargs or {}))
    except Exception as error:
        raise ModelError(
            f"wanted to trace {type(model).__name__} with torch.export on the example input; got "
            f"{type(error).__name__}: {first_line(error)}. Check that the model runs on this input and that "
            f"its forward does not branch on the values of tensors.{_hint(error)}"
        ) from error
    names = aliases(model)
    states = {
        spec.arg.name: names[spec.target]
        for spec in program.graph_signature.input_specs
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target in names
    }
    spell(program.graph, states)
    program.graph.eliminate_dead_code(lambda node: node.is_impure() or _joins(node))
    return Program(program.graph, states, named_state(model), head_sizes(model), part_sizes(model))


def _hint(error: Exception) -> str:
    if isinstance(error, TypeError) and "unexpected keyword" in str(error):
        return " A dict of inputs holds what the forward takes, and no labels."
    missing = isinstance(error, TypeError) and "missing" in str(error)
    return f" {_MISSING}" if missing else ""


def _joins(node: fx.Node) -> bool:
    """Whether its inputs have to fit each other, as a layer's weight and input or two terms of a sum have:
    it runs though nobody reads what it gives."""
    return len(node.all_input_nodes) > 1


def _exported(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    """Plain where that works: the types of a forward may fit each other in mixed precision alone."""
    try:
        with plain():
            return _in_one_mode(model, args, kwargs)
    except Exception:
        return _in_one_mode(model, args, kwargs)


def _in_one_mode(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    """In a mode of gradients that the forward does not change: what it runs in another one is one operator
    to torch.export, which hides all inside."""
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            program = torch.export.export(model, args, kwargs, strict=False)
        if not any("set_grad_enabled" in str(node.target) for node in program.graph.nodes):
            break
    return program


@contextmanager
def unlogged() -> Iterator[None]:
    """What torch logs and prints about a forward that it cannot trace is a page; the error is one line."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    logger.addFilter(_nothing)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
