"""Modules that cut channels by integers of their own: these follow what is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.errors import PlanError
from autoprune.graph import Slicer, find_groups, verified_graph
from autoprune.graph.check import without
from autoprune.graph.remembered import lengths
from autoprune.plan import load, make_plan, save_plan

from .helpers import assert_exact, graph_of, image, random_kept, widths
from .test_heads import point


def conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))


class Cutter(nn.Module):
    """Convolutions of its own on the parts, side by side at the end.

    `cut` says how the parts are made, and so which integers it holds.
    """

    def __init__(self, sizes: tuple[int, ...], cut: Callable[[Cutter, Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.cut = cut
        self.sizes, self.as_list = sizes, list(sizes)
        self.width, self.rest, self.both = sizes[0], sizes[-1], sum(sizes)
        for name in {"sizes", "as_list", "width", "rest", "both"} - set(cut.__code__.co_names):
            delattr(self, name)
        self.inner = nn.ModuleList(conv(size, 6) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [F.relu(own(part)) for own, part in zip(self.inner, self.cut(self, x), strict=True)], 1
        )


class Whole(nn.Module):
    def __init__(self, sizes: tuple[int, ...], cut: Callable[[Cutter, Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.first, self.cutter = conv(3, sum(sizes)), Cutter(sizes, cut)
        self.last = conv(6 * len(sizes), 4)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.last(self.cutter(F.relu(self.first(x))))
        return last


Cut = Callable[[Cutter, Tensor], tuple[Tensor, ...]]
CUTS: dict[str, tuple[tuple[int, ...], Cut, list[int]]] = {
    "equal parts by their width": ((5, 5, 5), lambda own, x: x.split(own.width, 1), [5]),
    "equal parts by half of the whole": ((5, 5), lambda own, x: x.split(own.both // 2, 1), [5]),
    "equal slices": ((5, 5), lambda own, x: (x[:, : own.width], x[:, own.width :]), [5]),
    "a pair of integers": ((4, 6), lambda own, x: x.split([own.width, own.rest], 1), [4, 6]),
    "a tuple": ((4, 6, 4, 7), lambda own, x: x.split(own.sizes, 1), [4, 6, 7]),
    "a list": ((4, 6, 7), lambda own, x: x.split(own.as_list, 1), [4, 6, 7]),
    "slices of unlike sizes": ((4, 6), lambda own, x: (x[:, : own.width], x[:, own.width :]), [4, 6]),
    "what is left of the whole": (
        (4, 7),
        lambda own, x: x.split([own.width, own.both - own.width], 1),
        [4, 7],
    ),
    "three slices": (
        (4, 6, 9),
        lambda own, x: (
            x[:, : own.width],
            x[:, own.width : own.width + own.sizes[1]],
            x[:, own.width + own.sizes[1] :],
        ),
        [4, 6, 9],
    ),
    "a slice from behind": ((4, 6), lambda own, x: (x[:, : -own.rest], x[:, -own.rest :]), [4, 6]),
}


def network(name: str) -> Whole:
    torch.manual_seed(0)
    sizes, cut, _ = CUTS[name]
    return Whole(sizes, cut).eval()


@pytest.mark.parametrize("name", CUTS)
def test_parts_lose_channels_and_their_sizes_follow(name: str) -> None:
    model = network(name)
    graph = graph_of(model)
    own = [group.width for group in graph.groups if "cutter" not in group.name]
    assert sorted(own) == CUTS[name][2]
    assert_exact(model, graph, (image(),), {})


@pytest.mark.parametrize("name", CUTS)
def test_integers_are_as_they_were_where_all_channels_stay(name: str) -> None:
    model = network(name)
    graph = graph_of(model)
    assert graph.attributes
    for path, sizes in graph.sizes(graph.all_kept()).items():
        assert sizes.items() <= lengths(model.get_submodule(path)).items()


@pytest.mark.parametrize(("name", "attribute"), [("a tuple", "sizes"), ("a list", "as_list")])
def test_lists_and_tuples_stay_what_they_are_and_the_models_own_are_kept(name: str, attribute: str) -> None:
    model = network(name)
    graph = graph_of(model)
    sliced = Slicer(model, graph).build(random_kept(graph))
    before, after = (getattr(each.get_submodule("cutter"), attribute) for each in (model, sliced))
    assert type(after) is type(before) and sum(after) < sum(before)
    assert tuple(before) == CUTS[name][0]


class Viewed(nn.Module):
    """A filter on every channel by a functional call, a norm without parameters over two branches, a view by
    the number of features."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv(3, 5), conv(3, 6)
        self.norm, self.blur = nn.InstanceNorm2d(11), Blur(11)
        self.features, self.last = 11 * 4, nn.Linear(11 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(torch.cat([self.left(x), self.right(x)], 1)))
        x = F.adaptive_avg_pool2d(self.blur(x), 2)
        last: Tensor = self.last(x.view(-1, self.features))
        return last


class Blur(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("filt", torch.tensor([[1.0, 2.0], [3.0, 4.0]]).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.get_buffer("filt"), stride=2, groups=self.channels)


def test_integers_count_channels_of_several_groups() -> None:
    model = Viewed().eval()
    graph = graph_of(model)
    assert sorted(widths(graph)) == [5, 6]
    assert_exact(model, graph, (image(),), {})
    kept = {name: torch.arange(width - 2) for name, width in graph.widths.items()}
    sliced = Slicer(model, graph).build(kept)
    assert (sliced.features, sliced.get_submodule("blur").channels) == (28, 7)


def test_an_integer_counts_what_stays_dense_as_well() -> None:
    model = Viewed().eval()
    graph = find_groups(model, (image(),), ignore=["left*"])
    assert widths(graph) == [6]
    assert_exact(model, graph, (image(),), {})
    stopped = without(graph_of(model), {graph_of(model).groups[0].name: "tried"})
    assert {item.fixed for item in stopped.attributes} in ({5, 20}, {6, 24})
    assert_exact(model, stopped, (image(),), {})


class Patches(nn.Module):
    """As many pixels as channels, viewed by an integer that means the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pixels, self.last = conv(3, 16), 16, conv(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(F.relu(self.first(x)), 4)
        first = x.flatten(1)[:, : x.shape[1] * self.pixels].view(x.shape)
        last: Tensor = self.last(first.chunk(1, 1)[0].reshape(len(x), -1, self.pixels).view(x.shape))
        return last


def test_an_integer_as_large_by_chance_is_left_alone() -> None:
    model = Patches().eval()
    assert widths(verified_graph(model, (image(),))) == [16]


class Aside(nn.Module):
    """A head that runs in training alone, cuts what it reads and norms it without tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(3, 12), conv(12, 4)
        self.head = Head(12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        x = F.relu(self.first(x))
        return (self.last(x), self.head(x)) if self.training else self.last(x)


class Head(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.half, self.norm = width // 2, nn.GroupNorm(3, width // 2, affine=False)
        self.last = conv(width // 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.split(self.half, 1)
        last: Tensor = self.last(self.norm(left) * right)
        return last


def test_integers_follow_in_what_runs_in_training_alone() -> None:
    model = Aside().eval()
    graph = graph_of(model)
    assert widths(graph) == [3]
    sliced = Slicer(model, graph).build({graph.groups[0].name: torch.tensor([0, 2])})
    assert (sliced.get_submodule("head").half, sliced.get_submodule("head.norm").num_groups) == (4, 2)
    assert len(sliced.train()(image(2, 3, 8, 8))) == 2


class Twice(nn.Module):
    """Cuts two inputs, each by a number of its own; both numbers are the same."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv(3, 10), conv(3, 10)
        self.one, self.other, self.last = 5, 5, conv(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.left(x)).split(self.one, 1)
        c, d = F.relu(self.right(x)).split(self.other, 1)
        last: Tensor = self.last(torch.cat([a * b, c * d], 1))
        return last


def test_two_integers_alike_of_unlike_channels_are_left_alone() -> None:
    model = Twice().eval()
    graph = graph_of(model)
    assert widths(graph) == [5, 5] and graph.attributes == ()
    assert widths(verified_graph(model, (image(),))) == []


class HalfActive(nn.Module):
    """Cuts channels that belong together everywhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.few, self.rest, self.last = conv(3, 10), 4, 6, conv(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        few, rest = self.first(x).split([self.few, self.rest], 1)
        last: Tensor = self.last(torch.cat([F.relu(few), rest], 1))
        return last


def test_an_integer_that_counts_a_part_of_a_group_is_left_alone() -> None:
    model = HalfActive().eval()
    graph = graph_of(model)
    assert widths(graph) == [10] and graph.attributes == ()
    assert widths(verified_graph(model, (image(),))) == []


STOPPED: dict[str, tuple[tuple[int, ...], Cut, list[int]]] = {
    "unlike parts by numbers in the code": ((4, 6), lambda own, x: x.split([4, 6], 1), []),
    "a slice by a number in the code": ((4, 6), lambda own, x: (x[:, : own.width], x[:, 4:]), [6]),
    "numbers made of others": ((4, 7), lambda own, x: x.split([own.both - 7, own.both - 4], 1), []),
    "equal parts by a number in the code": ((5, 5), lambda own, x: x.split(5, 1), []),
}


@pytest.mark.parametrize("name", STOPPED)
def test_channels_stay_where_sizes_do_not_follow(name: str) -> None:
    sizes, cut, left = STOPPED[name]
    model = Whole(sizes, cut).eval()
    graph = verified_graph(model, (image(),))
    assert [group.width for group in graph.groups if "cutter" not in group.name] == left
    assert_exact(model, graph, (image(),), {})


def test_a_number_that_means_something_else_is_left_alone_where_chunks_need_none() -> None:
    model = Whole((5, 5), lambda own, x: x.chunk(2, 1)).eval()
    model.cutter.width = 5
    sliced = Slicer(model, graph_of(model)).build(random_kept(graph_of(model)))
    assert sliced.get_submodule("cutter").width == 5


def test_a_saved_network_knows_the_sizes_of_its_parts(tmp_path: Path) -> None:
    model = network("a tuple")
    graph = graph_of(model)
    kept = random_kept(graph)
    sliced = Slicer(model, graph).build(kept)
    save_plan(tmp_path / "plan", sliced, make_plan(model, graph, point(kept), study="s"))
    found = load(network("a tuple"), tmp_path / "plan")
    assert found.get_submodule("cutter").sizes == sliced.get_submodule("cutter").sizes
    with torch.no_grad():
        assert torch.equal(found(image()), sliced(image()))


@pytest.mark.parametrize("attributes", [{"sizes.0": 5}, {"sizes.9": 2}, {"cut": 2}, {"training": 1}])
def test_a_plan_lowers_integers_and_nothing_else(tmp_path: Path, attributes: dict[str, int]) -> None:
    model = network("a tuple")
    graph = graph_of(model)
    kept = random_kept(graph)
    plan = make_plan(model, graph, point(kept), study="s")
    plan = plan.model_copy(update={"attributes": {"cutter": attributes}})
    save_plan(tmp_path / "plan", Slicer(model, graph).build(kept), plan)
    fresh = network("a tuple")
    with pytest.raises(PlanError, match="that counts heads or channels"):
        load(fresh, tmp_path / "plan")
    assert fresh.cutter.sizes == CUTS["a tuple"][0]
