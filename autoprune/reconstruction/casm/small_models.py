"""The small models: which calls to run, which tensors to train, which output to match.

Every layer that is to be restored ends one small model. It begins at the nearest producer above of a
group that the layer reads: {producer, what lies between, the layer, its norm, its residual sum}.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.graph.groups import ChannelGraph, Layer
from autoprune.reconstruction.replaying.trace import Trace
from autoprune.reconstruction.replaying.windows import Target, Window


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
    above = [
        producer
        for group in graph.read_by(layer)
        for producer in graph.producers(group)
        if producer.name not in trace.repeated and trace.layers.get(producer.name, here) < here
    ]
    return max(above, key=lambda producer: trace.layers[producer.name], default=None)
