"""What a network returns, as one row of numbers per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.data.inputs import Inputs
from autoprune.errors import ModelError


def squared_distance(network: nn.Module, dense: nn.Module, batches: Sequence[Inputs]) -> float:
    """Summed squared difference of everything that two networks return, 0 best; nothing is kept."""
    pairs = ((flat_outputs(network, batch), flat_outputs(dense, batch)) for batch in batches)
    return sum(float((mine - wanted).square().sum(dtype=torch.float64)) for mine, wanted in pairs)


def squared_deviation(model: nn.Module, batches: Sequence[Inputs]) -> float:
    """Summed squared deviation of everything that a network returns from its mean over the images; nothing
    is kept."""
    square, first, count = 0.0, torch.zeros((), dtype=torch.float64), 0
    for batch in batches:
        # In float64 throughout: the mean may be far greater than what is left without it.
        rows = flat_outputs(model, batch).double()
        square += float(rows.square().sum())
        first = first.to(rows.device) + rows.sum(0)
        count += batch.size
    return max(square - float(first.square().sum()) / max(count, 1), 0.0)


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
            f"the model's output for {batch} image(s) holds no floating-point tensor with one row per image; "
            "wrap the model so that it returns one. A squeeze() that names no dimension also takes the rows "
            "away where a batch has one image: name the dimension."
        )
    return torch.cat(rows, 1)
