"""Fingerprints: whether two models (or sets of images) are the same, bit for bit."""

from __future__ import annotations

import hashlib
from typing import Protocol

from torch import Tensor, nn

from autoprune.tensors import bytes_of

DIGITS = 16


class Digest(Protocol):
    """What this module needs of a hashlib object."""

    def update(self, data: bytes, /) -> None: ...


def add_tensor(digest: Digest, name: str, tensor: Tensor) -> None:
    """Feed name, dtype, shape and bytes of a tensor of any shape to the digest."""
    digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
    digest.update(bytes_of(tensor))


def fingerprint(module: nn.Module) -> str:
    """Sixteen hex digits of the sha256 over names, shapes, dtypes and bytes of the state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            add_tensor(digest, name, value)
    return digest.hexdigest()[:DIGITS]
