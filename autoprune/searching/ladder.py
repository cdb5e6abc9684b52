"""The ladder: how candidates are judged, from nearly free to the measurement of a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from torch import nn

from autoprune.data.inputs import Inputs, leading
from autoprune.data.outputs import flat_outputs
from autoprune.errors import DataError
from autoprune.latency import Latency
from autoprune.reconstruction import Bench, Reconstruction
from autoprune.reconstruction.base import POSITIONS_PER_IMAGE
from autoprune.reconstruction.remembering import RememberingIndependent
from autoprune.searching.evaluator import Evaluator, Metric, checked
from autoprune.searching.metrics import LabelledMetric
from autoprune.searching.options import Task
from autoprune.searching.outputs import OutputError
from autoprune.searching.profile import MEASURED_SHARES

Setting = TypeVar("Setting")

PROFILE_FORWARDS = {"cpu": 5_120, "cuda": 20_480}
"""Images that the profile's output errors may cost in all: with many groups each is measured on fewer, so
that a profile's time grows with the depth of a network and not with its square."""
PROFILE_MACS = {"cpu": 2e13, "cuda": 2e15}
"""MACs that they may cost where every candidate is restored as the study does it: some minutes."""
PASSES = 4
"""What restoring and judging such a candidate costs, in dense forward passes over its images."""
PROFILE_IMAGES = 256
"""Calibration images on which a candidate of the profile is restored at most."""
RUNG_IMAGES = 1_024
"""Calibration images on which the rung below the measurement restores at most: on ResNet-20 it then ranks
random candidates much as their measured accuracy does (studies/LOG.md, 2026-11-27)."""
RUNG_SAMPLES = 2**14
"""Output positions that a layer is fitted on there, those of all images together: at equal cost more images
with fewer positions rank better (studies/LOG.md, 2026-11-27)."""
RUNG_POSITIONS = 16
"""But at least so many of each image."""
RUNG_MACS = 2e11
"""What a dense pass over the images of that rung may cost, in MACs, before it takes the least share of them:
1,024 images through CIFAR's ResNet-56 are 1.3e11, 125 of ImageNet through ResNet-18 2.3e11."""
RUNG_SHARES = {"cpu": (8, 2), "cuda": (4, 2)}
"""That rung takes at least one in so many of the calibration images where their passes are dear, and at most
where they are cheap. On a GPU most of what a small pass costs does not depend on the number of images."""
JUDGED_PER_RESTORED = 8
"""Validation images that judge such a candidate for one that restores it: a pass is cheap."""
JUDGED_IMAGES = 2_048
"""But at most so many."""
LEAST_RUNG_IMAGES = 32
"""With fewer images the profile restores independently, on the second moments of all images."""
TRIAL_IMAGES = 1_000
"""Unseen images on which a trial's output error is measured."""
MOST_OUTPUTS = 2**25
"""Dense outputs that an output error remembers at most, in numbers: those of pixels are many."""


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Makes the evaluators of one task. `latency` times a network, where a trial does that."""

    task: Task
    bench: Bench
    reconstruction: Reconstruction
    batch_norm: bool
    data_free: bool
    dense_macs: int
    latency: Callable[[nn.Module], Latency] | None = None

    def measuring(self) -> Evaluator:
        """The last rung: what a trial stores."""
        return Evaluator(
            self.bench,
            self.reconstruction,
            self.task.metric,
            self._error(TRIAL_IMAGES),
            batch_norm=self.batch_norm,
            latency=self.latency,
        )

    def below(self) -> Evaluator:
        """The rung below the measurement: on few images, but as the study restores."""
        return self.on_few(self._rung_images)

    def profiling(self) -> Evaluator:
        """Measures the profile's output errors: as a trial would where enough images can be afforded."""
        cost = self._measurements * PASSES * max(self.dense_macs, 1)
        images = min(self._profile_images, int(self._of_device(PROFILE_MACS) / cost))
        few = images < LEAST_RUNG_IMAGES
        return self.quick() if self.data_free or few else self.on_few(images)

    def on_few(self, images: int) -> Evaluator:
        """Restores candidates as the study does, but quickly, on a few calibration images."""
        # However closely a trial looks at few images, a quick judgement does not.
        positions = min(POSITIONS_PER_IMAGE, max(RUNG_POSITIONS, RUNG_SAMPLES // images))
        bench = self.bench.first(images).with_positions(positions)
        restore = self.reconstruction.quick()
        metric = self._metric(min(JUDGED_PER_RESTORED * images, JUDGED_IMAGES))
        probe = metric.inputs if isinstance(metric, LabelledMetric) else None
        error = self._error(2 * images, probe)
        return Evaluator(bench, restore, metric, error, batch_norm=self.batch_norm)

    def _metric(self, images: int) -> Metric:
        """The metric, or what ranks alike, on the first images.

        As a plain function, by which nothing is judged on few images, where these have no value: all targets
        are the same, no pixel is labelled.
        """
        metric = self.task.metric
        if not isinstance(metric, LabelledMetric):
            return metric
        few = metric.first(images).smooth()
        try:
            checked(few(self.task.model))
        except DataError:
            return metric.__call__
        return few

    def quick(self) -> Evaluator:
        """Restores candidates without a pass over data, and measures their output error on few images."""
        restore = self.reconstruction if self.data_free else RememberingIndependent()
        error = self._error(max(16, self._profile_images))
        return Evaluator(self.bench, restore, self.task.metric, error)

    def _error(self, images: int, probe: Sequence[Inputs] | None = None) -> OutputError:
        most = max(LEAST_RUNG_IMAGES, MOST_OUTPUTS // self._outputs)
        chosen = leading(self.task.probe if probe is None else probe, min(images, most))
        return OutputError(self.task.model, chosen)

    @cached_property
    def _outputs(self) -> int:
        """Numbers that the network gives for one image."""
        return flat_outputs(self.task.model, self.task.probe[0].take(2)).shape[1]

    @property
    def _rung_images(self) -> int:
        images = sum(chunk.size for chunk in self.task.chunks)
        least, most = (images // share for share in self._of_device(RUNG_SHARES))
        affordable = int(RUNG_MACS / max(self.dense_macs, 1))
        return max(1, min(RUNG_IMAGES, most, max(least, affordable)))

    @property
    def _profile_images(self) -> int:
        return min(PROFILE_IMAGES, self._of_device(PROFILE_FORWARDS) // self._measurements)

    @property
    def _measurements(self) -> int:
        return len(MEASURED_SHARES) * len(self.bench.graph.groups)

    def _of_device(self, settings: Mapping[str, Setting]) -> Setting:
        return settings.get(self.task.device.type, settings["cpu"])
