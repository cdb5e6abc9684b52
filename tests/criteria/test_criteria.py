"""What every registered criterion must do."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from autoprune.criteria import GroupView, Reader, criteria, group_view, loss_curve
from autoprune.errors import ConfigError
from autoprune.graph import Role
from tests.small import NETWORKS, duplicate_channel, make_bench

NAMES = list(criteria)
BY_SEED = {"random"}
SCALE_FREE = {"second-moment", "random"}


def view(width: int = 9, b: int = 2, seed: int = 0, channels: Tensor | None = None) -> GroupView:
    """A random group; `channels` permutes its channels."""
    generator = torch.Generator().manual_seed(seed)
    filters = torch.randn(width, 12, generator=generator)
    weight = torch.randn(2, 4, width, b, generator=generator, dtype=torch.float64)
    mix = torch.randn(2, width * b, 3 * width * b, generator=generator, dtype=torch.float64)
    second = (mix @ mix.mT).unflatten(2, (width, b)).unflatten(1, (width, b))
    order = torch.arange(width) if channels is None else channels
    second = second[:, order][:, :, :, order].flatten(3).flatten(1, 2)
    weight = weight[:, :, order].flatten(2)
    reader = Reader(weight, torch.linalg.inv(second), float(((weight @ second) * weight).sum()))
    return GroupView("group", width, filters[order], lambda: [reader], seed)


def test_the_promised_criteria_are_there() -> None:
    assert set(NAMES) >= {"second-moment", "l1", "l2", "random"}
    with pytest.raises(ConfigError, match="did you mean 'second-moment'"):
        criteria["second-moments"]


@pytest.mark.parametrize("batch", [1, 2, 4, 9])
@pytest.mark.parametrize("name", NAMES)
def test_an_order_names_every_channel_once_and_is_the_same_again(name: str, batch: int) -> None:
    order = criteria[name]().order(view(), batch)
    assert order.dtype == torch.int64 and order.device.type == "cpu" and order.shape == (9,)
    assert order.sort().values.tolist() == list(range(9))
    torch.manual_seed(batch)
    assert criteria[name]().order(view(), batch).equal(order)


@pytest.mark.parametrize("name", NAMES)
def test_one_channel(name: str) -> None:
    assert criteria[name]().order(view(width=1), 1).tolist() == [0]


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("name", sorted(set(NAMES) - BY_SEED))
def test_an_order_follows_its_channels(name: str, batch: int) -> None:
    channels = torch.randperm(9, generator=torch.Generator().manual_seed(7))
    order = criteria[name]().order(view(), batch)
    assert channels[criteria[name]().order(view(channels=channels), batch)].equal(order)


@pytest.mark.parametrize("name", sorted(SCALE_FREE))
def test_scale_free_criteria_ignore_the_scale_of_filters(name: str) -> None:
    plain = view()
    scaled = dataclasses.replace(plain, filters=plain.filters * torch.logspace(-2, 2, 9)[:, None])
    assert criteria[name]().order(scaled, 1).equal(criteria[name]().order(plain, 1))


@pytest.mark.parametrize(("name", "p"), [("l1", 1), ("l2", 2)])
def test_norms_go_by_norm_and_need_no_data(name: str, p: int) -> None:
    def never() -> list[Reader]:
        raise AssertionError("no second moment is needed")

    plain = dataclasses.replace(view(), readers=never)
    order = criteria[name]().order(plain, 1)
    norms = plain.filters.norm(p=p, dim=1)
    assert bool((norms[order].diff() >= 0).all())
    assert criteria[name]().order(plain, 4).equal(order)
    assert criteria[name]().order(dataclasses.replace(plain, filters=plain.filters * 3), 1).equal(order)
    smallest = int(order[0])
    changed = plain.filters.clone()
    changed[smallest] *= 1000
    assert int(criteria[name]().order(dataclasses.replace(plain, filters=changed), 1)[-1]) == smallest


def test_random_depends_on_the_seed_alone() -> None:
    chooser = criteria["random"]()
    first = chooser.order(view(seed=0), 1)
    assert chooser.order(dataclasses.replace(view(seed=1), seed=0), 2).equal(first)
    assert not chooser.order(dataclasses.replace(view(), seed=1), 1).equal(first)


def test_the_default_loses_least() -> None:
    plain = view(seed=3)
    curves = {name: loss_curve(plain.readers(), criteria[name]().order(plain, 1)) for name in NAMES}
    assert all(curves["second-moment"].sum() <= curve.sum() for curve in curves.values())


@pytest.mark.parametrize("network", NETWORKS)
def test_views_of_real_networks(network: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(), small.images(32)
    bench = make_bench(model, images)
    assert bench.graph.groups
    for group in bench.graph.groups:
        seen = group_view(model, bench.graph, bench.statistics, group, 0)
        assert seen.filters.shape[0] == seen.width == group.width
        assert len(seen.readers()) == len(group.of_role(Role.CONSUMER)) > 0
        for name in NAMES:
            order = criteria[name]().order(seen, 2)
            assert order.sort().values.tolist() == list(range(group.width))
            curve = loss_curve(seen.readers(), order)
            assert bool(curve.isfinite().all()) and bool((curve.diff() <= 1e-12).all())
        same = group_view(model, bench.graph, bench.statistics, group, 0)
        assert same.seed == seen.seed != group_view(model, bench.graph, bench.statistics, group, 1).seed


@pytest.mark.parametrize("network", NETWORKS)
def test_a_channel_that_a_network_computes_twice_goes_first(network: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(dtype=torch.float64), small.images(64, dtype=torch.float64)
    for number, group in enumerate(make_bench(model, images[:1]).graph.groups):
        twice = small.model(dtype=torch.float64)
        duplicate_channel(twice, group, 0, group.width - 1)
        bench = make_bench(twice, images, damping=1e-10)
        seen = group_view(twice, bench.graph, bench.statistics, bench.graph.groups[number], 0)
        order = criteria["second-moment"]().order(seen, 1)
        assert float(loss_curve(seen.readers(), order)[-2]) < 1e-6
        assert not {0, group.width - 1} <= set(order[-(group.width // 2) :].tolist())
