from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from autoprune.criteria import Similarity, kernel_dispersion
from autoprune.criteria.similarity import similarity_classes
from tests.criteria.views import view

Clustering = Literal["k-means", "average-linkage"]
BOTH = pytest.mark.parametrize("clustering", ["k-means", "average-linkage"])


def bundles(sizes: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Filters in narrow bundles around orthogonal directions, of random norms; and the bundle of each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    filters = torch.eye(len(sizes), 12)[labels] + 0.05 * torch.randn(len(labels), 12, generator=generator)
    filters *= 1 + torch.rand(len(labels), 1, generator=generator)
    shuffled = torch.randperm(len(labels), generator=generator)
    return filters[shuffled], labels[shuffled]


@BOTH
def test_bundles_of_filters_are_found(clustering: Clustering) -> None:
    filters, labels = bundles([6, 3, 4, 1])
    units = torch.nn.functional.normalize(filters.double(), dim=1)
    classes = similarity_classes(units, 4, clustering)
    pairs = {(int(a), int(b)) for a, b in zip(classes, labels, strict=True)}
    assert len(pairs) == 4


@BOTH
def test_every_class_keeps_its_share_of_largest_norm_at_every_width(clustering: Clustering) -> None:
    sizes = [8, 4, 2, 2]
    filters, labels = bundles(sizes)
    order = Similarity(clustering=clustering, class_share=4 / 16).order(view(filters=filters, width=16), 1)
    for kept in range(1, 17):
        stays = order[16 - kept :]
        for label, size in enumerate(sizes):
            count = int((labels[stays] == label).sum())
            assert abs(count - kept * size / 16) <= 1
            members = (labels == label).nonzero().squeeze(1)
            largest = members[filters[members].abs().sum(1).argsort(descending=True)][:count]
            assert set(largest.tolist()) == set(stays[labels[stays] == label].tolist())


def test_a_filter_that_points_the_same_way_as_a_larger_one_goes_before_others_of_its_class() -> None:
    filters, labels = bundles([5, 3], seed=1)
    members = (labels == 0).nonzero().squeeze(1)
    norms = filters[members].abs().sum(1)
    smallest, largest, middle = members[norms.argsort()[[0, -1, 2]]].tolist()
    filters[middle] = 0.9 * filters[largest]
    order = Similarity(class_share=0.25).order(view(filters=filters, width=8), 1).tolist()
    assert order.index(middle) < order.index(smallest) < order.index(largest)


def test_kernel_dispersion_is_zero_where_all_agree_and_one_where_they_cancel() -> None:
    one = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    assert kernel_dispersion(one * torch.tensor([[1.0], [2.0], [0.1]])) == pytest.approx(0, abs=1e-12)
    assert kernel_dispersion(torch.cat([one, -3 * one])) == pytest.approx(1)
    assert kernel_dispersion(torch.eye(4)) == pytest.approx(0.75)
    assert kernel_dispersion(torch.cat([torch.eye(4), torch.zeros(3, 4)])) == pytest.approx(0.75)
    assert kernel_dispersion(torch.zeros(3, 4)) == 0.0


def test_kernel_dispersion_grows_as_filters_turn_apart() -> None:
    filters = torch.randn(10, 20, generator=torch.Generator().manual_seed(0))
    found = [kernel_dispersion(filters + pull) for pull in (10.0, 3.0, 1.0, 0.3, 0.0)]
    assert found == sorted(found) and 0 <= found[0] < 0.05 and 0.8 < found[-1] <= 1
