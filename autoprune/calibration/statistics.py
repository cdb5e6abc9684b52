"""What one pass over the calibration images leaves behind: second moments per layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from autoprune.calibration.accumulate import Collected
from autoprune.calibration.call import LayerCall
from autoprune.calibration.columns import Grid, steps_of
from autoprune.calibration.moments import Moments
from autoprune.calibration.taps import LayerTap
from autoprune.data.inputs import Inputs
from autoprune.errors import DataError
from autoprune.graph.groups import Layer
from autoprune.linear_algebra import damped, for_images, inverse

POSITIONS_PER_IMAGE = 32
"""Output positions of a layer that are looked at per image; all, where there are fewer.

Neighbouring positions say nearly the same: on ResNet-20 a few gave the accuracy of all (studies/LOG.md).
"""


class OnDemand(Mapping[str, Moments]):
    """Second moments that `source()` makes, or reads, when they are first looked at."""

    def __init__(self, source: Callable[[], Mapping[str, Moments]]) -> None:
        self._source = source

    @cached_property
    def _moments(self) -> Mapping[str, Moments]:
        return self._source()

    def __getitem__(self, layer: str) -> Moments:
        return self._moments[layer]

    def __contains__(self, layer: object) -> bool:
        # The inherited one would take a KeyError of the source for an answer.
        return layer in self._moments

    def __iter__(self) -> Iterator[str]:
        return iter(self._moments)

    def __len__(self) -> int:
        return len(self._moments)


@dataclass
class Statistics:
    """Second moments of the dense network's layer inputs, by layer name, and their inverses on demand.

    `damping` is relative to the mean diagonal of the moment that is inverted, and grows where images are
    few (`for_images`).
    """

    moments: Mapping[str, Moments]
    damping: float
    images: int
    _inverses: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _powers: dict[str, float] = field(default_factory=dict, repr=False)

    def covariance(self, layer: Layer) -> Tensor:
        """Covariance of the layer's input where it can absorb a bias, else E[u u^T]: (groups, n, n)."""
        return self.moments[layer.name].covariance(centred(layer))

    def inverse(self, layer: Layer) -> Tensor:
        """Inverse of the damped covariance, float64, computed once per layer: (groups, n, n)."""
        if layer.name not in self._inverses:
            matrix = self.covariance(layer)
            matrix, _ = damped(matrix, for_images(self.damping, matrix.shape[-1], self.images))
            self._inverses[layer.name] = inverse(matrix)
        return self._inverses[layer.name]

    def power(self, layer: Layer, weight: Tensor) -> float:
        """tr(W G W^T) of the layer's dense weight (groups, out, n), computed once per layer."""
        if layer.name not in self._powers:
            self._powers[layer.name] = float(((weight @ self.covariance(layer)) * weight).sum())
        return self._powers[layer.name]

    def forget_inverses(self) -> None:
        """Free the inverses; they are only needed while orders of removal are made."""
        self._inverses.clear()


def centred(layer: Layer) -> bool:
    """Whether a constant may be added to the layer's output: by its bias or by the norm behind it."""
    return layer.bias is not None or layer.norm is not None


@torch.no_grad()
def calibrate(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Iterable[Inputs],
    *,
    damping: float,
    positions_per_image: int | None = POSITIONS_PER_IMAGE,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """One pass of the dense network over the batches; memory does not grow with the number of images.

    Raises DataError when there are no images, or when a layer's inputs are not finite.
    """
    collected: defaultdict[str, Collected] = defaultdict(Collected)
    images = 0
    for number, batch in enumerate(batches):
        with LayerTap(model, layers, _collector(collected, number, positions_per_image)):
            batch.call(model)
        images += batch.size
        if progress is not None:
            progress(batch.size)
    if images == 0:
        raise DataError("calibration needs at least one image, got an empty loader; pass some inputs.")
    moments = {name: of_layer.moments() for name, of_layer in collected.items()}
    _check_finite(moments)
    return Statistics(moments, damping, images)


def _collector(
    collected: Mapping[str, Collected], number: int, limit: int | None
) -> Callable[[LayerCall], Tensor]:
    def collect(call: LayerCall) -> Tensor:
        output = call.run()
        collected[call.layer.name].add(call, Grid(steps_of(call, output, limit), number))
        return output

    return collect


def _check_finite(moments: Mapping[str, Moments]) -> None:
    for name, of_layer in moments.items():
        if not bool(of_layer.first.isfinite().all()):
            raise DataError(
                f"the inputs of layer '{name}' are not finite on the calibration images; "
                "check the images and the model's weights for NaN or infinity."
            )
