"""Outputs as rows of numbers: distances and deviations add up over batches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autoprune.data.inputs import Inputs
from autoprune.data.outputs import squared_deviation, squared_distance


@torch.no_grad()
def test_deviation_and_distance_are_those_of_all_images_together() -> None:
    torch.manual_seed(0)
    model, other, images = nn.Linear(3, 4), nn.Linear(3, 4), torch.randn(50, 3) + 5.0
    batches = [Inputs((images[:30],)), Inputs((images[30:],))]
    outputs = model(images)
    expected = float((outputs - outputs.mean(0)).square().sum())
    assert squared_deviation(model, batches) == pytest.approx(expected, rel=1e-4)
    distance = float((outputs - other(images)).square().sum())
    assert squared_distance(other, model, batches) == pytest.approx(distance, rel=1e-4)


def test_what_never_changes_deviates_by_nothing() -> None:
    images = torch.ones(8, 3)
    assert squared_deviation(nn.Linear(3, 4), [Inputs((images,))]) == pytest.approx(0.0, abs=1e-4)


def test_a_mean_far_above_the_deviation_hides_none_of_it() -> None:
    torch.manual_seed(0)
    images = 1e4 + torch.randn(50, 3)
    expected = float((images.double() - images.double().mean(0)).square().sum())
    assert squared_deviation(nn.Identity(), [Inputs((images,))]) == pytest.approx(expected, rel=1e-4)


def test_squares_of_halves_do_not_overflow() -> None:
    class Constant(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 3), self.value, dtype=torch.float16)

    batches = [Inputs((torch.zeros(2, 1),))]
    found = squared_distance(Constant(1.0), Constant(400.0), batches)
    assert found == pytest.approx(6 * 399.0**2, rel=1e-3)
