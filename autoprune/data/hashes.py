"""Hashes of tensors, 16 hex digits, that tell one data set from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from torch import Tensor

from autoprune.data.inputs import Inputs
from autoprune.fingerprint import DIGITS
from autoprune.tensors import bytes_of


def fingerprint_of(batches: Sequence[Inputs]) -> str:
    """Hash of inputs as they are batched."""
    digest = hashlib.sha256()
    for batch in batches:
        for tensor in batch.tensors:
            digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(bytes_of(tensor))
    return digest.hexdigest()[:DIGITS]


def fingerprint_of_samples(batches: Sequence[Inputs]) -> str:
    """Hash of inputs, the same however they are batched: devices and loaders differ in that."""
    named: dict[str, list[Tensor]] = {}
    for batch in batches:
        for name, tensor in (*enumerate(batch.args), *sorted(batch.kwargs.items())):
            named.setdefault(f"{name}{tuple(tensor.shape[1:])}{tensor.dtype}", []).append(tensor)
    digest = hashlib.sha256()
    for name, tensors in named.items():
        digest.update(name.encode())
        digest.update(hashed(tensors).encode())
    return digest.hexdigest()[:DIGITS]


def hashed(tensors: Iterable[Tensor]) -> str:
    """Hash of the numbers in the tensors, one after the other."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(bytes_of(tensor))
    return digest.hexdigest()[:DIGITS]
