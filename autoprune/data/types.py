"""Types of numbers: what the inputs of a network are made of, and what its weights are."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.errors import DataError


def type_hint(model: nn.Module, inputs: Inputs) -> str:
    """What to do where inputs are of another floating type than the weights, else ''."""
    if any(tensor.dtype == torch.uint8 and tensor.dim() > 2 for tensor in inputs.tensors):
        return " The inputs are bytes: give them as the network was trained, as by inputs.float() / 255."
    given, wanted = _floating(inputs.tensors), _floating(model.parameters())
    if not wanted or given <= wanted:
        return ""
    names = [", ".join(sorted(map(_name, types))) for types in (given, wanted)]
    return (
        f" The inputs are {names[0]}, the weights {names[1]}: convert one of them, as by "
        f"inputs.to(torch.{names[1].split(', ')[0]})."
    )


@torch.no_grad()
def check_types(model: nn.Module, inputs: Inputs) -> None:
    """DataError where the network cannot run because inputs and weights are of different types."""
    hint = type_hint(model, inputs)
    if not hint:
        return
    try:
        inputs.call(model)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0].rstrip(".")
        raise DataError(f"the network must run on the calibration inputs, got: {first}.{hint}") from error


def _floating(tensors: Iterable[Tensor]) -> set[torch.dtype]:
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point()}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
