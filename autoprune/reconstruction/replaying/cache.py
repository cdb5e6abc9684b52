"""What a pass had computed at one of its calls, for all images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoprune.reconstruction.replaying.trace import Trace


@dataclass
class Cache:
    """Tensors live at call number `cut`: per image (images, rows per image, ...), or one for all images.

    `dims` says which dimension of a tensor its images lie along, where that is not the first; images
    are handed out in `layout`.
    """

    cut: int = 0
    tensors: dict[int, Tensor] = field(default_factory=dict)
    shared: dict[int, Tensor] = field(default_factory=dict)
    dims: dict[int, int] = field(default_factory=dict)
    layout: torch.memory_format = torch.channels_last

    def rows(self, index: Tensor) -> dict[int, Tensor]:
        """Values for the chosen images (batch,), as the pass would see them; copies."""
        chosen = {
            key: value[index.to(value.device)]
            .flatten(0, 1)
            .movedim(0, self.dims.get(key, 0))
            .contiguous(memory_format=self._format(value))
            for key, value in self.tensors.items()
        }
        return {**{key: value.clone() for key, value in self.shared.items()}, **chosen}

    def put(self, trace: Trace, key: int, slot: int, value: Tensor, images: slice, count: int) -> None:
        """Take in, as tensor `slot`, what a pass over some of `count` images gave for the trace's `key`.

        In place: there is never a second copy of all of it.
        """
        dim = image_dim(trace, key)
        # Images need not lie along the first dimension, nor be one row there: folded frames, tokens first.
        if dim is None:
            self.shared.setdefault(slot, value.clone())
            return
        rows = by_image(trace, key, value, dim)
        if slot not in self.tensors:
            self.tensors[slot], self.dims[slot] = _room(rows, count), dim
        self.tensors[slot][images] = rows

    def _format(self, value: Tensor) -> torch.memory_format:
        return self.layout if value.dim() == 5 else torch.contiguous_format


def in_order(images: int, batch: int) -> Iterator[Tensor]:
    """Numbers of all images in batches."""
    for start in range(0, images, batch):
        yield torch.arange(start, min(start + batch, images))


def spanned(index: Tensor) -> slice:
    """Images that follow each other, as `in_order` gives them."""
    return slice(int(index[0]), int(index[-1]) + 1)


def _room(rows: Tensor, count: int) -> Tensor:
    """For so many images like these, in their order in memory."""
    one = torch.empty_like(rows[0])
    return rows.new_empty_strided((count, *one.shape), (one.numel(), *one.stride()))


def image_dim(trace: Trace, key: int) -> int | None:
    """The dimension that images lie along; None for what is the same for all."""
    return next((dim for dim, grown in enumerate(trace.growth[key]) if grown > 0), None)


def by_image(trace: Trace, key: int, value: Tensor, dim: int) -> Tensor:
    """A tensor with images along `dim`, perhaps several rows of each, as (images, rows per image, ...)."""
    first = value.movedim(dim, 0)
    return first.reshape(-1, trace.growth[key][dim], *first.shape[1:])
