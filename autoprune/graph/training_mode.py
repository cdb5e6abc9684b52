"""What a network runs in training mode alone, such as auxiliary heads: it has to fit the rest when pruned."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.errors import ModelError
from autoprune.graph.capture import Program, capture

_log = logging.getLogger(__name__)


def in_training(
    model: nn.Module, program: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Program | None:
    """The program of the training mode, where weights are read in it that `program`, of the eval mode, leaves
    out; a warning where it cannot be traced."""
    unread = _unread(model, program)
    if not unread:
        return None
    args, kwargs = pytree.tree_map_only(Tensor, _doubled, (args, dict(kwargs or {})))
    try:
        found = capture(model, args, kwargs, training=True)
        return found if set(_unread(model, found)) < set(unread) else None
    except ModelError:
        _log.warning(
            "%s, ... run in training mode at most, which cannot be traced: they stay as they are, and should "
            "they read pruned channels, a pruned network does not run in that mode",
            unread[0],
        )
        return None


def _unread(model: nn.Module, program: Program) -> list[str]:
    """Parameters and statistics that the program does not read."""
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.users]
    read = {program.states[node.name] for node in nodes if node.name in program.states}
    statistics = [(name, value) for name, value in model.named_buffers() if name.endswith("running_mean")]
    known = [*model.named_parameters(), *statistics]
    return [name for name, value in known if name not in read and value.dim()]


def _doubled(tensor: Tensor) -> Tensor:
    """Two images in place of one: a batch norm learns nothing from one."""
    return torch.cat([tensor, tensor]) if tensor.dim() else tensor
