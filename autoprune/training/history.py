"""The history of a training: every filter's L1 norm at the end of each epoch (HBFP).

Basha et al., Neurocomputing 2024 (arXiv 2102.00160).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from autoprune.errors import DataError
from autoprune.fingerprint import DIGITS
from autoprune.graph.groups import ChannelGraph, Role
from autoprune.graph.state import tensor_of
from autoprune.tensors import read_safetensors


@dataclass(frozen=True)
class History:
    """`norms[weight]` holds the L1 norms of the filters of one weight, (epochs, filters), on the CPU.

    The filters are those of the network in training: a pruned one has fewer than the dense one.
    """

    norms: Mapping[str, Tensor]

    @property
    def epochs(self) -> int:
        return next((len(norms) for norms in self.norms.values()), 0)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that tell one history from another."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:DIGITS]

    def to_bytes(self) -> bytes:
        """As safetensors, one tensor per weight."""
        return bytes(safetensors.torch.save({n: norms.contiguous() for n, norms in self.norms.items()}))

    @staticmethod
    def of_bytes(content: bytes, what: str = "the history") -> History:
        """Read `to_bytes`; DataError for anything else. Nothing is unpickled."""
        try:
            return History(read_safetensors(content))
        except ValueError as error:
            raise DataError(f"{what} is not readable as safetensors ({error}); record it again.") from error

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, and the folders on the way to it; whoever reads it finds all of it."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        written = place.with_name(f".{place.name}.{os.getpid()}")
        written.write_bytes(self.to_bytes())
        written.replace(place)

    @staticmethod
    def load(path: str | Path) -> History:
        """Read a file that `save` wrote; DataError where it is missing or something else."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"history '{path}' cannot be read: {error.strerror}; check the path.") from error
        return History.of_bytes(content, f"history '{path}'")

    def check(self, network: nn.Module, graph: ChannelGraph, what: str = "the history") -> History:
        """The same history; DataError, naming the weight, unless it may be one of this network."""
        epochs = max(self.epochs, 1)
        for weight, dim in producer_weights(graph).items():
            found, wanted = self.norms.get(weight), (epochs, tensor_of(network, weight).shape[dim])
            shape = None if found is None else tuple(found.shape)
            if found is None or shape != wanted or not bool(found.isfinite().all()):
                raise DataError(
                    f"{what} should hold finite norms of '{weight}' of shape (epochs, filters) = {wanted}, "
                    f"got {'none' if shape is None else shape}; record it on this network."
                )
        return self


class HistoryRecorder:
    """Callback for any training loop: `record()` at the end of each epoch, then `history()`.

    `model` is the network in training, dense or pruned; `graph` is what `find_groups` says of the dense one.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph) -> None:
        self.model, self._weights = model, producer_weights(graph)
        self._epochs: list[dict[str, Tensor]] = []

    def record(self) -> None:
        """Note the norms as they are now."""
        with torch.no_grad():
            norms = {n: filter_norms(tensor_of(self.model, n), dim) for n, dim in self._weights.items()}
        # Not every device has float64.
        self._epochs.append({name: norm.cpu().double() for name, norm in norms.items()})

    def __call__(self, *_: Any, **__: Any) -> None:
        """As an epoch-end callback, whatever the loop passes to it."""
        self.record()

    def history(self) -> History:
        """What was recorded so far; DataError when that is nothing."""
        if not self._epochs:
            raise DataError("a history needs at least one epoch; call record() at the end of each.")
        return History({name: torch.stack([epoch[name] for epoch in self._epochs]) for name in self._weights})


def filter_norms(weight: Tensor, dim: int) -> Tensor:
    """L1 norm of every filter along `dim`, (filters,), in the weight's own type; gradients pass."""
    return weight.movedim(dim, 0).flatten(1).abs().sum(1)


def producer_weights(graph: ChannelGraph) -> dict[str, int]:
    """Weights, not biases, that produce the channels of some group, and the dimension of their filters."""
    weights = {layer.weight for layer in graph.layers}
    members = [member for group in graph.groups for member in group.of_role(Role.PRODUCER)]
    return {member.tensor: member.dim for member in members if member.tensor in weights}
