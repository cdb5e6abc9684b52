"""Parts of a pass that are fitted alone: the calls to run, the layers to train, the outputs to match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from autoprune.graph.groups import Layer
from autoprune.graph.state import tensor_of


@dataclass(frozen=True)
class Target:
    """Output of call `call` in the dense network, on the kept rows (channels,) of `layer`."""

    layer: Layer
    call: int
    rows: Tensor

    @property
    def channel_dim(self) -> int:
        return -1 if self.layer.kind.channels_last else 1


@dataclass(frozen=True)
class Window:
    """Calls `start` to `end` (not included), the layers trained in them, and the outputs they must match."""

    start: int
    end: int
    trained: tuple[Layer, ...]
    targets: tuple[Target, ...]


def parameters_of(network: nn.Module, layers: Sequence[Layer]) -> list[nn.Parameter]:
    """Weights, biases and norms of the layers, each once; what is a buffer or shared is not trained."""
    names = [name for layer in layers if layer.alone for name in _names(network, layer)]
    found = [tensor_of(network, name) for name in dict.fromkeys(names)]
    return [tensor for tensor in found if isinstance(tensor, nn.Parameter)]


def _names(network: nn.Module, layer: Layer) -> list[str]:
    own = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    if layer.norm is None:
        return own
    norm = network.get_submodule(layer.norm)
    return own + [f"{layer.norm}.{name}" for name, _ in norm.named_parameters(recurse=False)]
