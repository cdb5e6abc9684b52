"""Regression: a convolutional network says by what angle a handwritten digit was turned, judged by R2.

    python examples/04_regression.py          # some minutes on one core; --smoke: seconds
"""

import math

import torch
from common import SEED, against_uniform, few, fit, show
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, interpolate, mse_loss

import autoprune
from autoprune.searching.metrics import R2


def turned(images: Tensor, times: int) -> tuple[Tensor, Tensor]:
    """Every image several times, turned by up to 60 degrees, with noise, and the angles in radians."""
    images = images[: few(len(images))].repeat(times, 1, 1, 1)
    angles = (2 * torch.rand(len(images)) - 1) * math.pi / 3
    zero = torch.zeros_like(angles)
    rows = torch.stack([angles.cos(), -angles.sin(), zero, angles.sin(), angles.cos(), zero], 1)
    grid = affine_grid(rows.view(-1, 2, 3), [len(images), 1, 16, 16], align_corners=False)
    images = grid_sample(images, grid, align_corners=False)
    return images + 0.2 * torch.randn_like(images), angles


def conv(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()]


digits = torch.tensor(load_digits().images).float()[:, None] / 16
digits = interpolate(digits[torch.randperm(len(digits))], scale_factor=2.0, mode="bilinear")
images, angles = turned(digits[:1000], 5)
model = nn.Sequential(
    *(*conv(1, 8, 1), *conv(8, 16, 2), *conv(16, 16, 1), *conv(16, 24, 1), *conv(24, 24, 2)),
    *(*conv(24, 24, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 24), nn.ReLU()),
    *(nn.Linear(24, 1), nn.Flatten(0)),
)
fit(model, images, angles, mse_loss, epochs=10)

options = {"calibration": images[: few(1024)], "validation": [turned(digits[1000:1400], 5)], "metric": "r2"}
# Few targets, so that more trials go to each: shares of the MACs that people ask for.
targets = {"targets": [0.25, 0.5, 0.75]}
front = autoprune.search(model, **options, trials=few(40, 2), seed=SEED, strategy_options=targets)
show(front)
against_uniform(model, front, R2([turned(digits[1400:], 5)], torch.device("cpu")), **options)
