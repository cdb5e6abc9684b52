"""Tensors from files of others, numbers and their names, nothing that runs; and the precision of ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any, ParamSpec, TypeGuard, TypeVar

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from autoprune.errors import DataError

P = ParamSpec("P")
R = TypeVar("R")


def read_safetensors(content: bytes) -> dict[str, Tensor]:
    """The tensors in `content`, on the CPU; ValueError, saying what is wrong, for anything else."""
    try:
        return dict(safetensors.torch.load(content))
    except KeyError as error:
        raise ValueError(f"tensors of type {error} are not known here") from error
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(str(error)) from error


def is_plain(value: Any) -> TypeGuard[Tensor]:
    """Whether it is a tensor that holds all its values: neither sparse nor nested, nor without any."""
    if not isinstance(value, Tensor) or value.is_nested:
        return False
    return value.layout is torch.strided and not value.is_meta


def bytes_of(tensor: Tensor) -> bytes:
    """The numbers of a tensor of any shape, as they are stored, one after the other."""
    # Flat: a column can be contiguous and still have strides that no other type can be seen through.
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def in_own_precision(function: Callable[P, R]) -> Callable[P, R]:
    """The function with automatic mixed precision and inference mode off, whatever is on around the call.

    Second moments and what is solved with them need the precision that the network's tensors have; and
    tensors that are made in inference mode can never be trained.
    """

    @wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        with ExitStack() as stack:
            if torch.is_inference_mode_enabled():
                stack.enter_context(torch.inference_mode(False))
            return without_autocast(function)(*args, **kwargs)

    return outside


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """The function with automatic mixed precision off, for what a forward calls from within its own."""

    @wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        # Asked first: this is called for every layer of every batch.
        mixed = [device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]
        if not mixed:
            return function(*args, **kwargs)
        with ExitStack() as stack:
            for device in mixed:
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return outside


def plain(value: Any) -> Any:
    """Numbers and arrays of NumPy as Python's own; anything else as it is."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def as_number(metric: Any) -> float:
    """What a metric gave as a number, which need not be finite; DataError where it is none."""
    try:
        return float(metric)
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(metric.shape)}" if isinstance(metric, Tensor) else ""
        came = f"{type(metric).__name__}{shape}"
        raise DataError(f"the metric must be one number (higher is better), got {came}.") from None
