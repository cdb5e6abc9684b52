"""What a network returns, as one row of numbers per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.data.inputs import Inputs
from autoprune.errors import ModelError


def main_tensor(output: Any) -> Tensor | None:
    """The tensor that a network is judged and trained by: the output itself, or entry "out" or "logits" of a
    dict; None where there is no floating-point one."""
    if isinstance(output, Mapping):
        tensors = (main_tensor(output[name]) for name in ("out", "logits") if name in output)
        return next((tensor for tensor in tensors if tensor is not None), None)
    return output if isinstance(output, Tensor) and output.is_floating_point() else None


def squared_distance(network: nn.Module, dense: nn.Module, batches: Sequence[Inputs]) -> float:
    """Summed squared difference of everything that two networks return, 0 best; nothing is kept."""
    pairs = ((flat_outputs(network, batch), flat_outputs(dense, batch)) for batch in batches)
    return sum(_squared(mine, wanted) for mine, wanted in pairs)


def _squared(mine: Tensor, wanted: Tensor) -> float:
    # Squares overflow in half precision.
    apart = mine - wanted if mine.dtype.itemsize > 2 else mine.float() - wanted.float()
    return float(apart.square().sum(dtype=torch.float64))


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
    """Numbers of an output structure side by side, (batch, values): floating-point and complex tensors.

    Images lie along the first dimension, or along the only other one that has as many places (times first).
    """
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    real = [torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf for leaf in leaves]
    floating = [leaf for leaf in real if leaf.is_floating_point()]
    rows = [leaf.movedim(dim, 0) for leaf in floating if (dim := _images(leaf, batch)) is not None]
    if not rows:
        came = ", ".join(str(tuple(leaf.shape)) for leaf in leaves) or "no tensor"
        raise ModelError(
            f"the model's output for {batch} image(s) holds no floating-point tensor with a dimension of "
            f"that size, got {came}; wrap the model so that it returns one. A squeeze() that names no "
            "dimension also takes it away where a batch has one image: name the dimension."
        )
    return torch.cat([row.reshape(batch, -1) for row in rows], 1)


def _images(output: Tensor, batch: int) -> int | None:
    """The dimension along which the images of a batch lie."""
    dims = [dim for dim, size in enumerate(output.shape) if size == batch]
    return dims[0] if dims and (dims[0] == 0 or len(dims) == 1) else None
