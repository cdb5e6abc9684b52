"""The proxy's ruler: how far a candidate's outputs are from the dense network's, without labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.data.outputs import flat_outputs
from autoprune.errors import DataError, ModelError


class OutputError:
    """Relative squared error of a network's outputs against the dense one's on fixed images, 0 best.

    The error is divided by the variance of the dense outputs over the images, so 1 means no better than
    the mean output. Works on any tensors a model returns; needs no labels.
    """

    def __init__(self, dense: nn.Module, batches: Sequence[Inputs]) -> None:
        self.batches = list(batches)
        self.outputs = [flat_outputs(dense, batch) for batch in self.batches]
        whole = torch.cat([output.double() for output in self.outputs])
        self.power = float((whole - whole.mean(0)).square().sum())
        if len(whole) == 1:
            raise DataError("at least two images must judge, got one; pass more validation images.")
        if self.power <= 0:
            raise ModelError(
                f"the model gives the same output for all of {len(whole)} images, so nothing can be compared "
                "with it; pass more images that differ, or check its weights."
            )

    def __call__(self, network: nn.Module) -> float:
        pairs = zip(self.batches, self.outputs, strict=True)
        return sum(self.batch_error(flat_outputs(network, b), o) for b, o in pairs) / self.power

    @staticmethod
    def batch_error(output: Tensor, dense: Tensor) -> float:
        """Summed squared difference of two flat outputs."""
        return float((output - dense).square().sum(dtype=torch.float64))
