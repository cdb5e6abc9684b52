"""Coordinates in which a joint fit is well conditioned."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoprune.calibration.moments import Moments
from autoprune.reconstruction.joint.coordinates import Coordinates, Curvature, carried_back, inverse_root
from tests.small import NETWORKS

each_network = pytest.mark.parametrize("network", NETWORKS)


def test_an_inverse_root_whitens() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(500, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    matrix = inputs.mT @ inputs / 500
    root = inverse_root(matrix, 1e-9)
    torch.testing.assert_close(root @ matrix @ root, torch.eye(6, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert bool(inverse_root(torch.zeros(3, 3), 1e-3).isfinite().all())


@pytest.mark.parametrize("centred", [True, False])
def test_a_mean_counts_where_no_constant_can_follow(centred: bool) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(3, 500) + 2.0
    found = Curvature.of(Moments.of(inputs.unsqueeze(0)), torch.arange(3), 1e-6, centred)
    moved = found.root @ (inputs.double() - found.mean)
    assert bool(found.mean.any()) is centred
    torch.testing.assert_close(moved @ moved.mT / 500, torch.eye(3).double(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(7, 4, 3, 3), (7, 8)])
def test_curvature_is_carried_back_through_a_layer(shape: tuple[int, ...]) -> None:
    """As many inputs as channels: the square of what a change of the inputs does to the outputs."""
    torch.manual_seed(0)
    weight = torch.randn(shape)
    change = torch.randn(4, dtype=torch.float64)
    found = change @ carried_back(torch.eye(7, dtype=torch.float64), weight, 4) @ change
    taps = torch.einsum("ock,c->ok", weight.double().reshape(7, 4, -1), change)
    torch.testing.assert_close(found, taps.square().sum())


def test_gradients_in_coordinates_are_those_of_the_layer() -> None:
    torch.manual_seed(0)
    inputs, wanted = torch.randn(200, 5) + 2.0, torch.randn(200, 3)
    layer = nn.Linear(5, 3)
    moments = Moments.of(inputs.mT.unsqueeze(0))
    one = Coordinates(
        layer.weight,
        layer.bias,
        torch.ones(3),
        Curvature.of(moments, torch.arange(5), 0.5, True),
        torch.eye(3),
    )

    def loss() -> Tensor:
        one.apply()
        layer.zero_grad()
        error = 0.5 * (layer(inputs) - wanted).square().sum(1).mean()
        error.backward()
        one.pull()
        return error.detach() + one.penalty()

    one.moved[1, 2] = 2.0
    start = loss()
    gradient = one.moved.grad
    assert gradient is not None
    slope = float(gradient[1, 2])
    one.moved[1, 2] += 1e-3
    assert float(loss() - start) / 1e-3 == pytest.approx(slope, rel=0.05)
