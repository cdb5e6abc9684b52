"""What a format of exported files must do: write a network, and run what was written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.data.inputs import Inputs

Runner = Callable[[Inputs], list[Tensor]]
"""Runs a network that was read back; its output tensors in the order of `output_tensors`, on the CPU."""


class Format(ABC):
    """One kind of file. Networks and inputs are on the CPU, networks in eval mode."""

    suffix: ClassVar[str]
    tolerance: ClassVar[float]
    """Largest difference from PyTorch, relative to the largest output, that is rounding."""
    modules: ClassVar[Sequence[str]] = ()
    """What must be installed beyond autoprune's own dependencies."""

    @abstractmethod
    def write(self, network: nn.Module, example: Inputs, path: Path, *, dynamic: bool) -> None:
        """Write `network` to `path`, for any batch size where `dynamic`, else for that of `example`."""

    @abstractmethod
    def read(self, path: Path, network: nn.Module) -> Runner:
        """Read what `write` wrote. `network` may lend its structure, never its weights."""


def output_tensors(output: Any) -> list[Tensor]:
    """All tensors of a network's answer, which may be nested, in order."""
    return [leaf.detach().cpu() for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
