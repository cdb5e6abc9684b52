"""Forward passes without what only hides operators from a trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import transformer

_lock = threading.Lock()
_replacements: dict[tuple[Any, str], tuple[Any, int]] = {}
"""What stood there before, and how many are inside."""


@contextmanager
def plain() -> Iterator[None]:
    """Inside, `torch.autocast` does nothing, and nobody looks whether an attention's mask is causal.

    A trace takes what runs in mixed precision for one operator of which it knows nothing, and cannot look
    at a mask's numbers. Which channels meet does not depend on either.
    """
    autocast = torch.amp.autocast_mode.autocast
    with (
        _replaced(autocast, "__enter__", lambda self: self),
        _replaced(autocast, "__exit__", lambda self, *details: False),
        masks_as_given(),
    ):
        yield


@contextmanager
def masks_as_given() -> Iterator[None]:
    """Inside, torch's transformers take an attention's mask for what `is_causal` says, and for a mask else.

    They look at its numbers otherwise, for a faster way to the same result.
    """
    with _replaced(transformer, "_detect_is_causal_mask", _as_said):
        yield


def _as_said(mask: Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    return is_causal is True


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Several threads may be inside at once: the first puts the value there, the last takes it away."""
    place = (owner, name)
    with _lock:
        before, inside = _replacements.get(place, (getattr(owner, name), 0))
        _replacements[place] = before, inside + 1
        setattr(owner, name, value)
    try:
        yield
    finally:
        with _lock:
            before, inside = _replacements.pop(place)
            if inside > 1:
                _replacements[place] = before, inside - 1
            else:
                setattr(owner, name, before)
