"""Random groups as criteria see them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from autoprune.criteria import GroupView, Reader


def view(
    width: int = 9, b: int = 2, seed: int = 0, channels: Tensor | None = None, **fields: Any
) -> GroupView:
    """A random group of fewer channels than weights; `channels` chooses and permutes its channels."""
    generator = torch.Generator().manual_seed(seed)
    filters = torch.randn(width, 12, generator=generator)
    weight = torch.randn(2, 4, width, b, generator=generator, dtype=torch.float64)
    mix = torch.randn(2, width * b, 3 * width * b, generator=generator, dtype=torch.float64)
    second = (mix @ mix.mT).unflatten(2, (width, b)).unflatten(1, (width, b))
    history = torch.rand(2, 5, width, generator=generator).cumsum(1)
    order = torch.arange(width) if channels is None else channels
    second = second[:, order][:, :, :, order].flatten(3).flatten(1, 2)
    weight = weight[:, :, order].flatten(2)
    inverse = torch.linalg.pinv(second, hermitian=True)
    reader = Reader(weight, inverse, float(((weight @ second) * weight).sum()))
    consumers = weight.unflatten(2, (len(order), b)).movedim(2, 0).flatten(1)
    found = GroupView(
        "group", len(order), filters[order], lambda: [reader], lambda: [consumers], seed, history[:, :, order]
    )
    return dataclasses.replace(found, **fields)


def scaled(plain: GroupView, factors: Tensor | float, consumers: Tensor | float = 1.0) -> GroupView:
    """The same group with filters (and their recorded norms) times `factors`, (width,) or one for all."""
    assert plain.history is not None
    column, other = torch.as_tensor(factors).reshape(-1, 1), torch.as_tensor(consumers).reshape(-1, 1)
    weights = plain.consumers()
    return dataclasses.replace(
        plain,
        filters=plain.filters * column,
        history=plain.history * column.T,
        consumers=lambda: [weight * other for weight in weights],
    )
