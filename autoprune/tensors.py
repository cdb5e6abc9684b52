"""Tensors from files of others: numbers and their names, nothing that runs."""

from __future__ import annotations

from typing import Any, TypeGuard

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor


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
