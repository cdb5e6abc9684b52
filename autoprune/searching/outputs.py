"""The proxy's ruler: how far a candidate's outputs are from the dense network's, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.data.inputs import Inputs
from autoprune.errors import ModelError


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
        if self.power <= 0:
            raise ModelError(
                "the model gives the same output for all images, so nothing can be compared with it; "
                "check its weights, or pass more than one image."
            )

    def __call__(self, network: nn.Module) -> float:
        pairs = zip(self.batches, self.outputs, strict=True)
        return sum(self.batch_error(flat_outputs(network, b), o) for b, o in pairs) / self.power

    @staticmethod
    def batch_error(output: Tensor, dense: Tensor) -> float:
        """Summed squared difference of two flat outputs."""
        return float((output - dense).square().sum(dtype=torch.float64))


@torch.no_grad()
def flat_outputs(network: nn.Module, inputs: Inputs) -> Tensor:
    """Everything floating-point that the model returns, (batch, values)."""
    return flatten(inputs.call(network), inputs.size)


def flatten(output: Any, batch: int) -> Tensor:
    """Floating-point tensors of an output structure side by side, (batch, values)."""
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    floating = [leaf for leaf in leaves if leaf.is_floating_point() and leaf.dim() > 0]
    rows = [leaf.reshape(batch, -1) for leaf in floating if leaf.shape[0] == batch]
    if not rows:
        raise ModelError(
            "the model's output holds no floating-point tensor with one row per image; wrap the model so "
            "that it returns one."
        )
    return torch.cat(rows, 1)
