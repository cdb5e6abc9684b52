"""The loss of semantic segmentation: that of classification at every pixel."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autoprune.data.labelled import IGNORED, is_labelled
from autoprune.errors import DataError
from autoprune.training.losses.base import TaskLoss, single, task_losses
from autoprune.training.losses.classification import cross_entropy, distillation_loss


@task_losses.register("pixel-cross-entropy")
class PixelCrossEntropy(TaskLoss):
    """Cross-entropy of class scores at every pixel, and the teacher's distribution there.

    The network gives (batch, classes, height, width), alone or as entry "out" or "logits" of a dict (other
    entries, such as those of auxiliary heads, are not trained); integer labels (batch, height, width), of
    which 255 and -100 count nowhere. Images keep their places, for their labels lie in them.
    """

    moves_images = "never"

    def to_labels(self, output: Any, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        scores = pixel_scores(output)
        wanted = (len(scores), *scores.shape[2:])
        if labels.shape != wanted or labels.is_floating_point():
            raise DataError(
                f"labels of pixels must be integers of shape {wanted}, one for each place of the scores, "
                f"got {labels.dtype} {tuple(labels.shape)}."
            )
        labels = labels.long().masked_fill(~is_labelled(labels), IGNORED).flatten()
        return cross_entropy(_rows(scores), labels, smoothing)

    def to_teacher(self, output: Any, teacher: Any, temperature: float = 1.0) -> Tensor:
        mine, wanted = pixel_scores(output), pixel_scores(teacher, "the teacher")
        return distillation_loss(_rows(mine), _rows(wanted), temperature)


def pixel_scores(output: Any, who: str = "the network") -> Tensor:
    """The output as scores (batch, classes, height, width) in float32 at least; DataError for any other."""
    return single(output, "(batch, classes, height, width)", who, dims=4)


def _rows(scores: Tensor) -> Tensor:
    """(batch, classes, height, width) -> (pixels, classes)."""
    return scores.movedim(1, -1).flatten(0, -2)
