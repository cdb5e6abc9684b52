"""The small models: which calls to run, which tensors to train, which output to match.

Every layer that is to be restored ends one small model. It begins at the nearest producer above of a
group that the layer reads: {producer, what lies between, the layer, its norm, its residual sum}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from autoprune.graph.groups import ChannelGraph, Layer
from autoprune.graph.state import tensor_of
from autoprune.reconstruction.casm.trace import Trace


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


def windows(
    graph: ChannelGraph, trace: Trace, targets: Sequence[Target], train_producer: bool
) -> list[Window]:
    """One window per target, in an order in which the cut only moves forward."""
    found = [_window(graph, trace, target, train_producer) for target in targets]
    return sorted(found, key=lambda window: (window.start, window.end))


def whole(targets: Sequence[Target], layers: Sequence[Layer]) -> Window:
    """The entire network as one small model."""
    return Window(0, max(target.call for target in targets) + 1, tuple(layers), tuple(targets))


def _window(graph: ChannelGraph, trace: Trace, target: Target, train_producer: bool) -> Window:
    producer = _nearest_producer(graph, trace, target.layer)
    trained = (target.layer,) if producer is None or not train_producer else (producer, target.layer)
    start = min(trace.layers[layer.name] for layer in trained)
    return Window(start, target.call + 1, trained, (target,))


def _nearest_producer(graph: ChannelGraph, trace: Trace, layer: Layer) -> Layer | None:
    here = trace.layers[layer.name]
    groups = [group for group in graph.groups if layer in graph.consumers(group)]
    above = [
        producer
        for group in groups
        for producer in graph.producers(group)
        if producer.name not in trace.repeated and trace.layers.get(producer.name, here) < here
    ]
    return max(above, key=lambda producer: trace.layers[producer.name], default=None)


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
