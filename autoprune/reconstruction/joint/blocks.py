"""Which layers are fitted together: those whose channels nobody else reads, up to the next that others do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from autoprune.graph.groups import ChannelGraph, Layer
from autoprune.reconstruction.replaying.trace import Trace
from autoprune.reconstruction.replaying.windows import Target, Window

LONGEST = 3
"""Layers of a chain that are fitted at once, as in a bottleneck; longer chains are fitted pair by pair."""


def blocks(graph: ChannelGraph, trace: Trace, targets: Sequence[Target]) -> list[Window]:
    """Windows in an order in which the cut only moves forward; each has one target, its last layer's output.

    A layer of no chain that runs inside a block, such as a shortcut's convolution, is fitted with it.
    """
    target_of = {target.layer.name: target for target in targets}
    chains = [part for chain in _chains(graph, trace, target_of) for part in _parts(chain)]
    found = [_window(trace, target_of[chain[-1].name], chain) for chain in chains]
    chained = {layer.name for chain in chains for layer in chain}
    for target in targets:
        if target.layer.name not in chained and fitted(target.layer):
            _place(found, trace, _window(trace, target, (target.layer,)))
    return sorted(found, key=lambda window: (window.start, window.end))


def fitted(layer: Layer) -> bool:
    """Transposed convolutions and products with a matrix are not refitted."""
    return not layer.kind.inputs_first


def _chains(graph: ChannelGraph, trace: Trace, target_of: dict[str, Target]) -> Iterator[tuple[Layer, ...]]:
    """Maximal runs of layers, each the only reader of what the one before gives."""
    readers = dict(_links(graph, trace, target_of))
    read = {layer.name for layer in readers.values()}
    for layer in graph.layers:
        if layer.name in readers and layer.name not in read:
            chain = [layer]
            while chain[-1].name in readers:
                chain.append(readers[chain[-1].name])
            yield tuple(chain)


def _links(graph: ChannelGraph, trace: Trace, target_of: dict[str, Target]) -> Iterator[tuple[str, Layer]]:
    """Producer and its only reader, by the producer's name."""
    for group in graph.groups:
        producers, consumers = graph.producers(group), graph.consumers(group)
        if len(producers) != 1 or len(consumers) != 1:
            continue
        producer, consumer = producers[0], consumers[0]
        once = producer.name in trace.layers and producer.name not in trace.repeated
        wanted = once and consumer.name in target_of and fitted(producer) and fitted(consumer)
        if wanted and trace.layers[producer.name] < trace.layers[consumer.name]:
            yield producer.name, consumer


def _parts(chain: tuple[Layer, ...]) -> list[tuple[Layer, ...]]:
    return [chain] if len(chain) <= LONGEST else list(pairwise(chain))


def _window(trace: Trace, target: Target, layers: tuple[Layer, ...]) -> Window:
    start = min(trace.layers[layer.name] for layer in layers)
    return Window(start, target.call + 1, layers, (target,))


def _place(found: list[Window], trace: Trace, alone: Window) -> None:
    """Into the block that it runs in, or after all."""
    for number, block in enumerate(found):
        if len(block.trained) > 1 and block.start <= alone.start and alone.end <= block.end:
            trained = sorted((*block.trained, *alone.trained), key=lambda layer: trace.layers[layer.name])
            found[number] = Window(block.start, block.end, tuple(trained), block.targets)
            return
    found.append(alone)
