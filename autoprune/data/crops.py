"""Random parts of images, resized to the whole size: more views of few images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from autoprune.data.inputs import IMAGE_DIMS, Inputs

LEAST_AREA = 0.5
"""Share of the image that a part holds at least, as in the measurements (studies/LOG.md, 2026-11-27)."""
_WIDEST = 4 / 3
"""Ratio of width to height, or of height to width, at most, of a square image."""


def random_crops(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """Of every image (channels, height, width) a random part, resized to its size, mirrored half of the time.

    Volumes too, slice by slice, and what has an image's height and width beside one, such as a mask, which
    keeps its values. The generator lives on the CPU, whatever device the inputs are on.
    """
    sizes = {value.shape[-2:] for value in inputs.tensors if value.ndim in IMAGE_DIMS}
    boxes = _boxes(inputs.size, generator)
    return inputs.map(lambda x: _sampled(x, boxes) if x.ndim > 2 and x.shape[-2:] in sizes else x)


def _boxes(count: int, generator: torch.Generator) -> Tensor:
    """Affine maps (count, 2, 3) from the unit square to the parts."""
    area, ratio, flip, right, down = torch.rand(5, count, generator=generator)
    area = LEAST_AREA + (1 - LEAST_AREA) * area
    ratio = torch.exp((2 * ratio - 1) * math.log(_WIDEST))
    width, height = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    sign, zero = torch.where(flip < 0.5, -1.0, 1.0), torch.zeros(count)
    across = torch.stack([sign * width, zero, (2 * right - 1) * (1 - width)], 1)
    along = torch.stack([zero, height, (2 * down - 1) * (1 - height)], 1)
    return torch.stack([across, along], 1)


def _sampled(values: Tensor, boxes: Tensor) -> Tensor:
    """The parts of `values` (count, ..., height, width); between pixels of images only, not of masks."""
    planes = values.reshape(len(values), -1, *values.shape[-2:])
    images = values.ndim in IMAGE_DIMS and values.is_floating_point()
    grid = F.affine_grid(boxes.to(values.device), list(planes.shape), align_corners=False)
    # Places in bfloat16 would be pixels apart, and float32 does not know every integer.
    exact = planes.double() if not images or planes.dtype == torch.float64 else planes.float()
    mode = "bilinear" if images else "nearest"
    parts = F.grid_sample(exact, grid.to(exact.dtype), mode, "border", align_corners=False)
    return torch.empty_like(values).copy_(parts.reshape(values.shape))
