from __future__ import annotations

import pytest
import torch
from torch import nn

from autoprune.data.inputs import Inputs
from autoprune.errors import DataError
from autoprune.graph import Slicer
from autoprune.reconstruction import re_estimate
from tests.small import NETWORKS, make_bench, random_kept, relative_error


def test_statistics_become_those_of_the_images_and_nothing_else_changes() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.5)).eval()
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    images = NETWORKS["chain"].images(40)
    weights = [parameter.clone() for parameter in network.parameters()]
    re_estimate(network, [Inputs((part,)) for part in images.chunk(4)])
    assert norm.momentum == 0.3 and not any(module.training for module in network.modules())
    assert all(a.equal(b) for a, b in zip(weights, network.parameters(), strict=True))
    output = network[0](images)
    assert norm.running_mean is not None and norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, output.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, output.var((0, 2, 3)), rtol=0.2, atol=0)


def test_a_norm_without_statistics_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    re_estimate(network, [Inputs((NETWORKS["chain"].images(4),))])
    assert network[1].running_mean is None


def test_it_helps_where_nothing_was_reconstructed() -> None:
    small = NETWORKS["residual"]
    model, images = small.model(), small.images(64)
    bench = make_bench(model, images)
    pruned = Slicer(model, bench.graph).build(random_kept(bench.graph, 0.7)).eval()
    before = relative_error(pruned, model, images)
    re_estimate(pruned, bench.chunks)
    assert relative_error(pruned, model, images) < before


def test_every_image_counts_alike_however_they_are_batched() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3)).eval()
    images = torch.cat([torch.zeros(96, 3), torch.ones(2, 3)])
    re_estimate(network, [Inputs((images[:96],)), Inputs((images[96:],))])
    torch.testing.assert_close(network[0].running_mean, images.mean(0))
    assert network[0].momentum == 0.1


def test_one_image_is_too_few() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3)).eval()
    with pytest.raises(DataError, match="at least two images at a time, got 1"):
        re_estimate(network, [Inputs((torch.ones(1, 3),))])
    assert not network[0].training


def test_without_images_nothing_is_estimated() -> None:
    norm = nn.BatchNorm2d(2)
    norm.running_mean.fill_(3)  # type: ignore[union-attr]
    with pytest.raises(DataError, match="got none"):
        re_estimate(nn.Sequential(norm), [])
    assert norm.running_mean.tolist() == [3, 3]  # type: ignore[union-attr]
