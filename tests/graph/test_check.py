"""The check itself: it must fail on graphs that are wrong, and blame the right group."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import ModelError
from autoprune.graph import ChannelGraph, Role, check_groups, verified_graph
from autoprune.graph.check import without

from . import networks
from .helpers import graph_of, image, reasons, widths


def _with_rolled_columns(graph: ChannelGraph, name: str) -> ChannelGraph:
    """The graph with one group's consumer positions off by one channel."""

    def broken(positions: Tensor, role: Role) -> Tensor:
        return positions.roll(1, 0) if role is Role.CONSUMER else positions

    group = graph[name]
    members = tuple(replace(m, positions=broken(m.positions, m.role)) for m in group.members)
    groups = tuple(replace(g, members=members) if g is group else g for g in graph.groups)
    return ChannelGraph(groups, graph.frozen, graph.layers)


@pytest.mark.parametrize("exhaustive", [False, True])
def test_wrong_positions_are_blamed_on_their_group(exhaustive: bool) -> None:
    model = networks.FlattenLinear().eval()
    graph = _with_rolled_columns(graph_of(model), "second")
    report = check_groups(model, graph, (image(),), exhaustive=exhaustive)
    assert list(report.failed) == ["second"]
    assert report.passed == ("first", "hidden")
    assert "differ by" in report.failed["second"]


def test_several_wrong_groups_are_all_found() -> None:
    model = networks.FlattenLinear().eval()
    graph = _with_rolled_columns(_with_rolled_columns(graph_of(model), "first"), "hidden")
    report = check_groups(model, graph, (image(),))
    assert sorted(report.failed) == ["first", "hidden"]
    left = without(graph, report.failed)
    assert widths(left) == [8]
    assert sorted(reasons(left)) == ["first", "head", "hidden"]


def test_batch_size_written_into_the_forward_is_kept() -> None:
    model = networks.FlattenLinear(lambda x: x.reshape(1, -1)).eval()
    assert widths(verified_graph(model, (image(),))) == [8, 8, 10]


def test_sizes_read_from_channels_are_caught() -> None:
    class Scale(networks.Residual):
        def forward(self, x: Tensor) -> Tensor:
            x = self.first(self.norm(self.stem(x)))
            head: Tensor = self.head(self.second(x / x.shape[1]).mean((2, 3)))
            return head

    graph = verified_graph(Scale().eval(), (image(),))
    assert "differ by" in reasons(graph)["first"]
    assert "stem" in graph.widths


class Branches(nn.Module):
    """Does something else when few channels are left."""

    def __init__(self, tail: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.c, self.d = nn.Conv2d(16, 12, 3), nn.Conv2d(12, 5, 1) if tail else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = self.b(x).relu()
        x = self.c(x + y if x.shape[1] >= 4 else y)
        head: Tensor = self.d(x.relu()).mean((2, 3))
        return head


@pytest.mark.parametrize(("tail", "others"), [(False, []), (True, ["c"])])
def test_what_breaks_at_few_channels_alone_is_found_and_nothing_else_blamed(
    tail: bool, others: list[str]
) -> None:
    graph = verified_graph(Branches(tail).eval(), (image(),))
    assert [group.name for group in graph.groups] == others
    assert "differ by" in reasons(graph)["a"]


def test_what_must_be_of_one_size_is_not_so_by_chance() -> None:
    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 10, 3), nn.Conv2d(3, 10, 3)
            self.heads = nn.ModuleList([nn.Conv2d(10, 4, 1), nn.Conv2d(10, 4, 1)])

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.a(x).relu(), self.b(x).relu()
            torch.stack([a, b])
            both: Tensor = self.heads[0](a) + self.heads[1](b)
            return both

    graph = verified_graph(Stacked().eval(), (image(),))
    assert not graph.groups and "stack expects each tensor" in reasons(graph)["a"]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_no_number_in_the_masked_network_either_is_no_error(seed: int) -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 12), nn.Linear(12, 6, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.b(self.a(x.flatten(1)[:, :8]).relu())
            return x / x.norm(dim=-1, keepdim=True)

    torch.manual_seed(seed)
    assert widths(verified_graph(Normalised().eval(), (image(),))) == [12]


def test_zero_initialised_scales_do_not_hide_an_error() -> None:
    model = networks.Residual().eval()
    nn.init.zeros_(model.second.weight)
    nn.init.zeros_(model.norm.weight)
    report = check_groups(model, graph_of(model), (image(),), exhaustive=True)
    assert report.ok and not report.without_effect
    assert bool((model.second.weight == 0).all())


def test_group_without_effect_is_named() -> None:
    class Unheard(networks.Residual):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            head: Tensor = self.head(x.mean((2, 3)) + (self.second(self.first(x)) * 0).sum((2, 3)))
            return head

    model = Unheard().eval()
    report = check_groups(model, graph_of(model), (image(),), exhaustive=True)
    assert report.without_effect == ("first",)


def test_model_without_finite_outputs_is_a_model_error() -> None:
    class Infinite(networks.Residual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / torch.zeros(())

    model = Infinite().eval()
    with pytest.raises(ModelError, match="finite outputs on noise"):
        check_groups(model, graph_of(model), (image(),))
