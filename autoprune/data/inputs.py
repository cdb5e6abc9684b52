"""What one call of a model reads: positional and keyword tensors that share their batch dimension."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.data.splits import random_order
from autoprune.errors import DataError
from autoprune.memory import Limit

FAST = Limit(cpu=2 * 2**20, gpu=512 * 2**20, parts=150)
"""Bytes of inputs in one of the `fast_batches`. The activations of a batch take many times as much."""

FAST_LEAST = 16
"""Samples in one of the `fast_batches`, however large each is."""

IMAGE_DIMS = (4, 5)
"""Dimensions of a batch of images, and of volumes or clips."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch of inputs; dimension 0 of every tensor counts the samples. Dtypes are never changed."""

    args: tuple[Tensor, ...] = ()
    kwargs: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value in self.tensors:
            if not isinstance(value, Tensor) or value.ndim == 0:
                found = "a number" if isinstance(value, Tensor) else type(value).__name__
                raise DataError(f"model inputs must be tensors with a batch dimension, got {found}")
        sizes = {len(value) for value in self.tensors}
        if len(sizes) != 1:
            raise DataError(f"model inputs must share one batch size, got {sorted(sizes) or 'no tensor'}")

    @staticmethod
    def of(batch: object, most: float = math.inf) -> Inputs:
        """Read a batch as loaders yield it, for a network that takes at most so many positional inputs.

        A tensor is the only input, a mapping holds keyword inputs, a list or tuple positional ones. Labels
        are dropped: of two items the second, where the first holds inputs of its own or the second is an
        integer vector with one entry per sample; and a last one that is more than the network takes.
        """
        if isinstance(batch, Inputs):
            return batch
        if isinstance(batch, Tensor):
            return Inputs((batch,))
        if isinstance(batch, Mapping):
            return Inputs((), dict(batch))
        if isinstance(batch, list | tuple):
            if _is_labelled(batch):
                return Inputs.of(batch[0])
            return Inputs(tuple(batch[:-1] if len(batch) - 1 == most else batch))
        raise DataError(f"a batch must be a tensor, or a tuple or dict of them; got {type(batch).__name__}")

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, positional ones first."""
        return (*self.args, *self.kwargs.values())

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one sample of each tensor, positional ones first, the others in order of their names."""
        named = [self.kwargs[name] for name in sorted(self.kwargs)]
        return tuple(tuple(value.shape[1:]) for value in (*self.args, *named))

    @property
    def has_images(self) -> bool:
        """Whether `mirrored` changes anything."""
        return any(value.ndim in IMAGE_DIMS for value in self.tensors)

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.tensors[0])

    def to(self, device: torch.device | str) -> Inputs:
        """The same inputs on another device."""
        return self.map(lambda value: value.to(device))

    def take(self, count: int) -> Inputs:
        """The first `count` samples (all of them, where there are fewer)."""
        return self.map(lambda value: value[:count])

    def slice(self, start: int, stop: int) -> Inputs:
        """Samples `start` to `stop` - 1."""
        return self.map(lambda value: value[start:stop])

    def select(self, index: Tensor) -> Inputs:
        """The samples at `index` (count,), in that order."""
        return self.map(lambda value: value[index.to(value.device)])

    def split(self, limit: int, least: int = 1) -> list[Inputs]:
        """The same samples in parts of at most `limit` bytes, but of at least `least` samples."""
        each = sum(value[:1].numel() * value.element_size() for value in self.tensors)
        count = max(least, limit // max(each, 1))
        return [self.slice(start, start + count) for start in range(0, self.size, count)]

    def channels_last(self) -> Inputs:
        """The same images with channels side by side in memory, which convolutions run faster on."""
        return self.laid_out(torch.channels_last)

    def laid_out(self, layout: torch.memory_format) -> Inputs:
        """The same inputs with the images among them in this order in memory."""
        return self.map(lambda x: x.contiguous(memory_format=layout) if x.ndim == 4 else x)

    def mirrored(self) -> Inputs:
        """The same inputs with every image (channels, height, width) mirrored left to right, volumes too, and
        what has an image's height and width beside one, such as a mask."""
        sizes = {value.shape[-2:] for value in self.tensors if value.ndim in IMAGE_DIMS}
        return self.map(lambda x: x.flip(-1) if x.ndim > 2 and x.shape[-2:] in sizes else x)

    def where(self, chosen: Tensor, other: Inputs) -> Inputs:
        """The samples of `other` where `chosen` (samples,) is true, these elsewhere."""
        pairs = zip(self.tensors, other.tensors, strict=True)
        mixed = [_where(chosen.to(mine.device), theirs, mine) for mine, theirs in pairs]
        named = dict(zip(self.kwargs, mixed[len(self.args) :], strict=True))
        return Inputs(tuple(mixed[: len(self.args)]), named)

    def call(self, model: nn.Module) -> Any:
        """The model's answer to these inputs."""
        return model(*self.args, **self.kwargs)

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same inputs with every tensor changed."""
        kwargs = {name: change(value) for name, value in self.kwargs.items()}
        return Inputs(tuple(map(change, self.args)), kwargs)


def fast_batches(inputs: Inputs) -> list[Inputs]:
    """The same samples in batches that a forward pass is fastest on.

    On a CPU activations should stay in its caches: 730 images a second in batches of 64, 459 in batches of
    1,000 (ResNet-56, see studies/LOG.md). A GPU wants to be filled.
    """
    return inputs.split(FAST.bytes(inputs.tensors[0].device), least=FAST_LEAST)


def leading(batches: Sequence[Inputs], count: int) -> list[Inputs]:
    """The first `count` samples of the batches."""
    taken: list[Inputs] = []
    left = count
    for batch in batches:
        if left <= 0:
            break
        taken.append(batch.take(left))
        left -= taken[-1].size
    return taken


def mixed(batches: Sequence[Inputs]) -> Inputs:
    """All samples in a fixed random order, so that the first ones are a sample of all.

    Loaders often give class after class. DataError where they are of several shapes.
    """
    whole = concatenate(batches)
    return whole.select(torch.tensor(random_order(whole.size)))


def concatenate(batches: Sequence[Inputs]) -> Inputs:
    """One batch of all samples, in order; DataError when there are none or their structures differ."""
    if not batches:
        raise DataError("there must be at least one batch to concatenate, got none")
    first = batches[0]
    if len({(len(batch.args), frozenset(batch.kwargs)) for batch in batches}) != 1:
        raise DataError("all batches must have the same positional and keyword inputs")
    shapes = list(dict.fromkeys(batch.sample_shapes for batch in batches))
    if len(shapes) > 1:
        one, other = shapes[:2]
        raise DataError(
            f"samples must have one shape in all batches, got {_spelled(one)} and {_spelled(other)}; bring "
            "images to one size."
        )
    args = tuple(torch.cat(parts) for parts in zip(*(batch.args for batch in batches), strict=True))
    return Inputs(args, {name: torch.cat([batch.kwargs[name] for batch in batches]) for name in first.kwargs})


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *[1] * (no.ndim - 1)), yes, no)


def _spelled(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join("x".join(map(str, shape)) or "numbers" for shape in shapes)


def most_inputs(model: nn.Module) -> float:
    """How many positional inputs the model's forward takes; infinite where any number, or nobody says."""
    if model._forward_pre_hooks:
        # These may make few of many.
        return math.inf
    try:
        kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    except (TypeError, ValueError):
        return math.inf
    if Parameter.VAR_POSITIONAL in kinds:
        return math.inf
    return sum(kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)


def _is_labelled(batch: Sequence[Any]) -> bool:
    if len(batch) != 2 or not isinstance(batch[1], Tensor):
        return False
    if isinstance(batch[0], Mapping | list | tuple):
        return True
    if batch[1].ndim != 1:
        return False
    integer = not (batch[1].is_floating_point() or batch[1].is_complex() or batch[1].dtype == torch.bool)
    return integer and Inputs.of(batch[0]).size == len(batch[1])
