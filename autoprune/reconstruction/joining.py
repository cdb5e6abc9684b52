"""How many calibration images a sequential pass holds at once, and from which layer on.

All images of a pass wait at every layer, so its memory is that of their live activations. On large images the
first layers have by far the most of it, and the fewest unknowns to fit. So where all images do not fit, some
come late: each chunk of images joins at the first layer from which on there is room for it and those before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor, nn

from autoprune.calibration.call import LayerCall
from autoprune.calibration.flow import Branch, FlowHandler, FlowTap
from autoprune.data.inputs import Inputs
from autoprune.graph.groups import Layer
from autoprune.memory import Limit

LIVE = Limit(cpu=4 * 2**30, gpu=24 * 2**30, parts=4)
"""Bytes of live activations of a pass at most, about."""
_BESIDE = 2
"""What an image holds at a layer, in units of the layer's input and output: shortcuts wait beside them."""


@dataclass(frozen=True)
class Joining:
    """`sizes[chunk]` images join the meeting number `joins[chunk]`; `order` numbers the layers' meetings."""

    sizes: Sequence[int]
    joins: Sequence[int]
    order: Mapping[str, int]

    def takes(self, chunk: int, layer: str) -> bool:
        return self.joins[chunk] <= self.order[layer]

    def chunks(self, layer: str) -> int:
        """How many chunks the layer is fitted on: the first ones."""
        return sum(self.takes(chunk, layer) for chunk in range(len(self.joins)))

    def images(self, layer: str) -> int:
        return sum(self.sizes[: self.chunks(layer)])


@torch.no_grad()
def joining(model: nn.Module, layers: Sequence[Layer], chunks: Sequence[Inputs]) -> Joining:
    """Room for the chunks in a pass through `layers`, found by a pass of one image."""
    watch = _Order()
    with FlowTap(model, layers, watch):
        chunks[0].take(1).call(model)
    sizes = [chunk.size for chunk in chunks]
    room = LIVE.bytes(chunks[0].tensors[0].device)
    return Joining(sizes, _joins(sizes, list(watch.live.values()), room), _numbered(watch.live))


def _numbered(names: Mapping[str, int]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _joins(sizes: Sequence[int], live: Sequence[int], room: int) -> list[int]:
    """The first meeting from which on a chunk and those before it fit; the first chunk always does."""
    needed = list(accumulate(reversed(live), max))[::-1]
    found = [0]
    for images in list(accumulate(sizes))[1:]:
        found.append(next((i for i, each in enumerate(needed) if each * images <= room), len(needed)))
    return found


@dataclass
class _Order(FlowHandler):
    """Bytes that an image holds at each layer, in the order in which the layers are fitted."""

    live: dict[str, int] = field(default_factory=dict)

    def on_layer(self, call: LayerCall) -> Tensor:
        output = call.run()
        self.live[call.layer.name] = _BESIDE * (call.input.nbytes + output.nbytes)
        return output

    def on_sum(self, branch: Branch, other: Tensor, total: Callable[[], Tensor]) -> None:
        # Such a layer is fitted when its sum is known, after those of the other branch.
        name = branch.call.layer.name
        self.live[name] = self.live.pop(name)
