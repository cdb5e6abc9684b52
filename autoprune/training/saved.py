"""Whether what a checkpoint holds is the state of this training: checked before any of it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from autoprune.errors import TrainingError
from autoprune.graph.capture import named_state
from autoprune.tensors import is_plain
from autoprune.training.record import Epoch


def check_saved(saved: Mapping[str, Any], network: nn.Module, optimizer: Optimizer, source: str) -> None:
    """TrainingError unless `saved` has the names, sizes, types and settings that this training has."""
    try:
        state = named_state(network)
        for name in ("weights", "best"):
            _check_tensors(saved[name], state, name)
        _check_optimizer(saved["optimizer"], optimizer)
        _check_history(saved)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise TrainingError(
            f"checkpoint '{source}' is damaged ({reason}); remove it and begin anew."
        ) from error


def _check_tensors(found: Mapping[str, Any], wanted: Mapping[str, Tensor], what: str) -> None:
    if set(found) != set(wanted):
        odd = sorted(map(str, set(found) ^ set(wanted)))
        raise ValueError(f"{what} do not fit the network in: {', '.join(odd[:3])}")
    for name, tensor in wanted.items():
        value = found[name]
        if not is_plain(value) or (value.shape, value.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(f"{what}: '{name}' should be of size {list(tensor.shape)} and {tensor.dtype}")


def _check_optimizer(found: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Settings as they are now, but for the learning rate; what was remembered fits its parameter."""
    wanted = optimizer.state_dict()["param_groups"]
    for group, own in zip(found["param_groups"], wanted, strict=True):
        changed = sorted(key for key in own if key != "lr" and group.get(key) != own[key])
        if changed or not _number(group["lr"]):
            raise ValueError(f"the optimizer differs in {', '.join(changed) or 'lr'}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, memory in found["state"].items():
        for name, value in memory.items():
            shape = parameters[_at(index, len(parameters))].shape
            if not (value is None or _number(value) or (is_plain(value) and value.shape in ((), shape))):
                raise ValueError(f"the optimizer's {name} does not fit parameter {index}")


def _check_history(saved: Mapping[str, Any]) -> None:
    epochs = saved["history"]
    for number, epoch in enumerate(epochs, start=1):
        known = {field.name for field in fields(Epoch)}
        numbers = [value for name, value in epoch.items() if name != "metric" or value is not None]
        if set(epoch) != known or epoch["number"] != number or not all(map(_number, numbers)):
            raise ValueError(f"epoch {number} is no record of an epoch")
    if type(saved["best_epoch"]) is not int or not 0 <= saved["best_epoch"] <= len(epochs):
        raise ValueError("best_epoch is no epoch")
    for name in ("metric_before", "best_metric"):
        if not (saved[name] is None or _number(saved[name])):
            raise ValueError(f"{name} is no number")


def _at(index: Any, count: int) -> int:
    if type(index) is not int or not 0 <= index < count:
        raise ValueError(f"the optimizer has no parameter {index}")
    return index


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
