"""What every registered criterion must do."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from autoprune.components import create
from autoprune.criteria import Criterion, GroupView, criteria, group_view, loss_curve
from autoprune.errors import AutopruneError, ConfigError
from autoprune.graph import ChannelGroup, Role
from tests.criteria.views import scaled, view
from tests.small import NETWORKS, duplicate_channel, make_bench

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in criteria},
    "similarity-linkage": ("similarity", {"clustering": "average-linkage"}),
    "history-larger": ("history", {"remove": "larger"}),
}
NAMES = list(VARIANTS)
BY_SEED = {"random"}
SCALE_FREE = {"second-moment", "random"}
FIND_DUPLICATES = {
    "omp",
    "lrf",
    "fp-backward",
    "similarity",
    "similarity-linkage",
    "history",
    "history-larger",
}
WITH_OWN_LOSS = set(NAMES) - {"second-moment", "random"}


def make(name: str, **options: Any) -> Criterion:
    known, given = VARIANTS[name]
    return create(criteria, known, {**given, **options})


def never() -> NoReturn:
    raise AssertionError("no second moment is needed")


def test_the_promised_criteria_are_there() -> None:
    promised = {"second-moment", "l1", "l2", "random", "omp", "fp-backward", "lrf", "similarity", "history"}
    assert set(criteria) >= promised
    with pytest.raises(ConfigError, match="did you mean 'second-moment'"):
        criteria["second-moments"]


@pytest.mark.parametrize("name", list(criteria))
def test_each_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    assert len(criteria[name].summary()) > 20
    assert criteria[name].citation or name == "random"


@pytest.mark.parametrize("batch", [1, 2, 4, 9])
@pytest.mark.parametrize("name", NAMES)
def test_an_order_names_every_channel_once_and_is_the_same_again(name: str, batch: int) -> None:
    order = make(name).order(view(), batch)
    assert order.dtype == torch.int64 and order.device.type == "cpu" and order.shape == (9,)
    assert order.sort().values.tolist() == list(range(9))
    torch.manual_seed(batch)
    assert make(name).order(view(), batch).equal(order)


@pytest.mark.parametrize("name", NAMES)
def test_one_channel(name: str) -> None:
    assert make(name).order(view(width=1), 1).tolist() == [0]


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("name", sorted(set(NAMES) - BY_SEED))
def test_an_order_follows_its_channels(name: str, batch: int) -> None:
    for seed in range(3):
        channels = torch.randperm(9, generator=torch.Generator().manual_seed(7 + seed))
        order = make(name).order(view(seed=seed), batch)
        assert channels[make(name).order(view(seed=seed, channels=channels), batch)].equal(order)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
@pytest.mark.parametrize("name", NAMES)
def test_a_common_scale_of_all_filters_changes_nothing(name: str, factor: float) -> None:
    order = make(name).order(view(width=14), 2)
    assert make(name).order(scaled(view(width=14), factor), 2).equal(order)
    found, wanted = (
        make(name).loss(seen, order) for seen in (scaled(view(width=14), factor), view(width=14))
    )
    if name in WITH_OWN_LOSS:
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_only_some_criteria_ignore_the_scale_of_single_filters(name: str) -> None:
    factors = torch.logspace(-2, 2, 9)
    same = make(name).order(scaled(view(), factors), 1).equal(make(name).order(view(), 1))
    assert same == (name in SCALE_FREE)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"second-moment"}))
def test_weights_only_criteria_look_at_no_image(name: str) -> None:
    blind = view(readers=never)
    order = make(name).order(blind, 1)
    make(name).loss(blind, order)
    assert not criteria[VARIANTS[name][0]].needs_images


def test_what_reads_second_moments_says_so() -> None:
    assert criteria["second-moment"].needs_images
    with pytest.raises(AssertionError, match="no second moment"):
        make("second-moment").order(view(readers=never), 1)


@pytest.mark.parametrize("width", [9, 20])
@pytest.mark.parametrize("name", NAMES)
def test_the_own_loss_falls_from_all_to_nothing_with_the_width(name: str, width: int) -> None:
    seen = view(width=width)
    for order in (make(name).order(seen, 1), torch.arange(width)):
        curve = make(name).loss(seen, order)
        assert (curve is not None) == (name in WITH_OWN_LOSS)
        if curve is not None:
            assert curve.shape == (width + 1,) and curve.dtype == torch.float64 and curve.device.type == "cpu"
            assert curve[0] == pytest.approx(1) and curve[-1] == 0 and bool((curve.diff() <= 0).all())


def twin_view(seed: int, first: int, second: int) -> GroupView:
    """A random group in which channel `second` repeats channel `first`."""
    channels = torch.arange(10)
    channels[second] = first
    return view(width=10, seed=seed, channels=channels)


@pytest.mark.parametrize("pair", [(0, 9), (3, 4), (8, 2)])
@pytest.mark.parametrize("name", sorted(FIND_DUPLICATES))
def test_a_duplicated_channel_is_redundant(name: str, pair: tuple[int, int]) -> None:
    for seed in range(4):
        order = make(name).order(twin_view(seed, *pair), 1)
        # A class of two loses its second member only when larger classes have lost theirs.
        removed = order[:5] if name.startswith("similarity") else order[:1]
        assert len(set(pair) & set(removed.tolist())) >= 1
        if name in {"omp", "fp-backward", "history"}:
            assert int(order[0]) == min(pair), "the lower index of equal channels goes first"


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", sorted(set(NAMES) - BY_SEED))
def test_equal_channels_go_by_their_index(name: str, batch: int) -> None:
    one = view(width=1)
    second = torch.eye(6, dtype=torch.float64)[None]
    reader = dataclasses.replace(
        one.readers()[0], weight=torch.ones(1, 4, 6).double(), inverse=second, power=1.0
    )
    assert one.history is not None
    same = GroupView(
        "group",
        6,
        one.filters.expand(6, -1),
        lambda: [reader],
        lambda: [one.consumers()[0].expand(6, -1)],
        0,
        one.history.expand(-1, -1, 6),
    )
    assert make(name).order(same, batch).tolist() == list(range(6))


@pytest.mark.parametrize(
    "name", ["omp", "lrf", "fp-backward", "similarity", "similarity-linkage", "l1", "l2"]
)
@pytest.mark.parametrize("width", [9, 20])
def test_filters_of_zeros_go_first(name: str, width: int) -> None:
    plain = view(width=width)
    filters = plain.filters.clone()
    filters[[2, 7]] = 0
    seen = dataclasses.replace(plain, filters=filters)
    order = make(name).order(seen, 1)
    assert order[:2].tolist() == [2, 7]
    curve = make(name).loss(seen, order)
    assert curve is not None and float(curve[-3:].max()) < 1e-9


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"second-moment"}))
def test_a_group_whose_filters_are_all_zero(name: str) -> None:
    plain = view()
    seen = dataclasses.replace(plain, filters=torch.zeros(9, 12), history=torch.zeros(2, 5, 9))
    order = make(name).order(seen, 2)
    assert order.sort().values.tolist() == list(range(9))
    curve = make(name).loss(seen, order)
    assert curve is None or (bool(curve.isfinite().all()) and bool((curve.diff() <= 0).all()))


def test_random_depends_on_the_seed_alone() -> None:
    chooser = criteria["random"]()
    first = chooser.order(view(seed=0), 1)
    assert chooser.order(dataclasses.replace(view(seed=1), seed=0), 2).equal(first)
    assert not chooser.order(dataclasses.replace(view(), seed=1), 1).equal(first)


def test_the_default_loses_least() -> None:
    plain = view(seed=3)
    curves = {name: loss_curve(plain.readers(), make(name).order(plain, 1)) for name in NAMES}
    assert all(curves["second-moment"].sum() <= curve.sum() for curve in curves.values())


def recorded(model: torch.nn.Module, group: ChannelGroup) -> dict[str, Tensor]:
    """Random norms over four epochs for every producer of the group."""
    state = model.state_dict()
    names = [(member.tensor, member.dim) for member in group.of_role(Role.PRODUCER)]
    return {name: torch.rand(4, state[name].shape[dim]) for name, dim in names if state[name].dim() > 1}


@pytest.mark.parametrize("network", NETWORKS)
def test_views_of_real_networks(network: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(), small.images(32)
    bench = make_bench(model, images)
    assert bench.graph.groups
    for group in bench.graph.groups:
        history = recorded(model, group)
        seen = group_view(model, bench.graph, bench.statistics, group, 0, history)
        assert seen.filters.shape[0] == seen.width == group.width
        assert seen.history is not None and seen.history.shape == (len(history), 4, group.width)
        assert len(seen.readers()) == len(group.of_role(Role.CONSUMER)) > 0
        for consumer, reader in zip(seen.consumers(), seen.readers(), strict=True):
            power = consumer.double().square().sum()
            torch.testing.assert_close(power, reader.weight.square().sum())
        for name in NAMES:
            order = make(name).order(seen, 2)
            assert order.sort().values.tolist() == list(range(group.width))
            curve = loss_curve(seen.readers(), order)
            assert bool(curve.isfinite().all()) and bool((curve.diff() <= 1e-12).all())
        same = group_view(model, bench.graph, bench.statistics, group, 0)
        assert same.seed == seen.seed != group_view(model, bench.graph, bench.statistics, group, 1).seed
        assert same.history is None


def test_a_history_that_does_not_fit_is_refused() -> None:
    small = NETWORKS["residual"]
    model = small.model()
    bench = make_bench(model, small.images(2))
    group = bench.graph.groups[0]
    history = recorded(model, group)
    for wrong in ({}, {name: norms[:, 1:] for name, norms in history.items()}):
        with pytest.raises(AutopruneError, match="record it again"):
            group_view(model, bench.graph, bench.statistics, group, 0, wrong)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_channel_that_a_network_computes_twice_goes_first(network: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(dtype=torch.float64), small.images(64, dtype=torch.float64)
    for number, group in enumerate(make_bench(model, images[:1]).graph.groups):
        twice = small.model(dtype=torch.float64)
        duplicate_channel(twice, group, 0, group.width - 1)
        bench = make_bench(twice, images, damping=1e-10)
        seen = group_view(twice, bench.graph, bench.statistics, bench.graph.groups[number], 0)
        for name in ("second-moment", "omp"):
            order = make(name).order(seen, 1)
            assert float(loss_curve(seen.readers(), order)[-2]) < 1e-6 or name != "second-moment"
            assert not {0, group.width - 1} <= set(order[-(group.width // 2) :].tolist())
