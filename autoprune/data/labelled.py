"""Batches with labels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autoprune.data.inputs import Inputs
from autoprune.errors import DataError

Labelled = tuple[Inputs, Tensor]
"""Inputs and their labels, one row for each."""
UNLABELLED = 255
"""Label of pixels that nobody asks about, by the custom of Pascal VOC and torchvision."""
IGNORED = -100
"""The same by torch's custom, of images and pixels."""
_ADVICE = "pass a labelled loader, or evaluate(model) -> float"


def is_labelled(pixels: Tensor) -> Tensor:
    """Where pixels have a label, of the same shape."""
    return (pixels != UNLABELLED) & (pixels != IGNORED)


def labelled_pair(batch: Any, who: str = "labelled batches", advice: str = _ADVICE) -> Labelled:
    """Inputs and labels: of a longer batch, as a TensorDataset of several inputs gives it, the last item is
    the labels. DataError for anything else; `who` names the batches, `advice` ends the message."""
    if not isinstance(batch, list | tuple) or len(batch) < 2 or not isinstance(batch[-1], Tensor):
        raise DataError(
            f"{who} must be (inputs, labels) pairs with labels as a tensor, got {type(batch).__name__}; "
            f"{advice}."
        )
    given = batch[0] if len(batch) == 2 else tuple(batch[:-1])
    return _inputs(given), batch[-1]


def _inputs(given: Any) -> Inputs:
    # Labels stand apart here, so a vector of integers is an input like others.
    return Inputs(tuple(given)) if isinstance(given, list | tuple) else Inputs.of(given)
