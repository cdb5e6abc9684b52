"""Channel groups of small networks: which there are, and that pruning any of them is exact (rule 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import ModelError
from autoprune.graph import Role, check_groups, find_groups, verified_graph
from autoprune.graph.patterns import caps_of

from . import networks
from .helpers import assert_exact, graph_of, image, reasons, widths

torch.manual_seed(0)

EXACT: list[tuple[nn.Module, list[int], tuple[Any, ...]]] = [
    (networks.Residual(), [8, 12], ()),
    (networks.Concat(), [6, 10], ()),
    (networks.Depthwise(), [6], ()),
    (networks.Grouped(), [6, 4], ()),
    (networks.Shuffle(), [8], ()),
    (networks.SqueezeExcite(), [8, 4], ()),
    (networks.FlattenLinear(), [8, 8, 10], ()),
    (networks.FlattenLinear(lambda x: x.view(x.shape[0], -1)), [8, 8, 10], ()),
    (networks.PaddedShortcut(), [8], ()),
    (networks.PixelShuffle(), [2, 3, 4, 3], ()),
    (networks.Tied(), [8], ()),
    (networks.TiedNames(), [8], ()),
    (networks.Scaled(), [8], ()),
    (networks.OneChannel(), [8], ()),
    (networks.ChannelsLast(), [16], ()),
    (networks.Upward(), [8, 6], ()),
    (networks.Sequence(), [8, 6], (image(1, 3, 16),)),
    (networks.Unequal(), [6], ()),
    (networks.Halves(whole=True), [4], ()),
    (networks.Hidden(), [12, 9], (image(1, 6),)),
    (networks.FrozenNorm(), [8], ()),
    (networks.Roll(dim=3), [8], ()),
    (networks.Normed(nn.InstanceNorm2d(8, affine=True)), [8], ()),
    (networks.Normed(nn.InstanceNorm2d(8)), [8], ()),
    (networks.Normed(nn.GroupNorm(4, 8, affine=False)), [4], ()),
    (networks.Normed(nn.GroupNorm(2, 8)), [2], ()),
    (networks.Normed(nn.GroupNorm(8, 8)), [8], ()),
]


@pytest.mark.parametrize(("model", "expected", "args"), EXACT, ids=lambda value: type(value).__name__)
def test_groups_are_found_and_exact(model: nn.Module, expected: list[int], args: tuple[Any, ...]) -> None:
    graph = graph_of(model, *args)
    assert widths(graph) == expected
    assert_exact(model, graph, args or (image(),), {})


FROZEN: list[tuple[nn.Module, str, str]] = [
    (networks.Normed(nn.GroupNorm(1, 8)), "first", "all channels are tied together"),
    (networks.Normed(nn.LayerNorm([8, 8, 8])), "first", "aten.layer_norm in 'norm' mixes channels"),
    (networks.Normed(nn.Softmax(1)), "first", "aten.softmax in 'norm' mixes channels"),
    (networks.Unknown(), "first", "aten.cdist in"),
    (networks.Unequal(), "first", "splits channels into unequal parts"),
    (networks.Halves(whole=False), "first", "cuts channels at a fixed place"),
    (networks.Roll(dim=1), "first", "rolls channels by a fixed number"),
    (networks.ComputedWeight(), "first", "has a weight that is computed"),
    (networks.Mixer(), "tokens", "mixes places along which channels run"),
    (networks.Written(), "first", "writes into a tensor"),
    (networks.Residual(), "head", "network output"),
    (networks.OneChannel(), "gate", "tied together"),
]


@pytest.mark.parametrize(("model", "layer", "reason"), FROZEN, ids=lambda value: type(value).__name__)
def test_frozen_layers_name_the_reason(model: nn.Module, layer: str, reason: str) -> None:
    graph = graph_of(model)
    assert reason in reasons(graph)[layer]
    assert check_groups(model, graph, (image(),)).ok


def test_norm_with_frozen_neighbours_still_leaves_the_rest() -> None:
    graph = graph_of(networks.ComputedWeight())
    assert widths(graph) == []
    assert {item.name for item in graph.frozen} >= {"first", "last"}


def test_padded_shortcut_keeps_only_padded_channels_dense() -> None:
    graph = graph_of(networks.PaddedShortcut())
    frozen = {item.name: item.width for item in graph.frozen}
    assert frozen == {"down": 8, "head": 5}
    down = next(
        member for member in graph["stem"].members if member.tensor == "down.weight" and member.dim == 0
    )
    assert down.positions.flatten().tolist() == list(range(4, 12))


def test_positions_count_a_channel_as_often_as_it_appears() -> None:
    flat = graph_of(networks.FlattenLinear())["second"]
    columns = next(member for member in flat.members if member.tensor == "hidden.weight")
    assert columns.role is Role.CONSUMER
    assert columns.positions.tolist() == [list(range(4 * c, 4 * c + 4)) for c in range(8)]
    depth = next(
        member for member in graph_of(networks.Depthwise())["first"].members if "depth" in member.tensor
    )
    assert (depth.role, depth.positions.shape) == (Role.FOLLOWER, (6, 2))


def test_sizes_written_into_the_forward_are_caught_by_the_check() -> None:
    model = networks.FlattenLinear(lambda x: x.view(-1, 32)).eval()
    graph = verified_graph(model, (image(),))
    assert [group.name for group in graph.groups] == ["first", "hidden"]
    assert "rule 1: the sliced network fails" in reasons(graph)["second"]


def test_dict_inputs_and_nested_outputs() -> None:
    model = networks.Outputs()
    batch, extra = {"image": image()}, image(1, 4)
    graph = graph_of(model, batch, extra=extra)
    assert widths(graph) == []
    assert "amax" in reasons(graph)["image"]


def test_layers_in_order_with_their_norm_and_their_uses() -> None:
    layers = graph_of(networks.Tied()).layers
    assert [(layer.name, layer.norm, layer.macs_per_weight) for layer in layers] == [
        ("first", None, 64),
        ("shared", None, 128),
        ("last", None, 64),
    ]
    assert graph_of(networks.Residual()).layers[0].norm == "norm"


def test_ignored_modules_stay_dense() -> None:
    graph = find_groups(networks.Residual().eval(), (image(),), ignore=["fir*"])
    assert [group.name for group in graph.groups] == ["stem"]
    assert reasons(graph)["first"] == "ignored by 'fir*'"


def test_model_is_left_as_it_was() -> None:
    model = networks.Residual().train()
    model.norm.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    find_groups(model, (image(),))
    assert (model.training, model.norm.training, model.first.training) == (True, False, True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_model_that_cannot_run_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="wanted to trace Residual"):
        find_groups(networks.Residual(), (torch.randn(1, 4, 8, 8),))


def test_weightless_model_has_no_groups() -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(1)

    graph = graph_of(Nothing())
    assert (graph.groups, graph.frozen, graph.layers) == ((), (), ())


@pytest.mark.parametrize("make", [networks.Residual, networks.Concat])
def test_who_reads_a_group_and_what_a_layer_reads_say_the_same(make: Callable[[], nn.Module]) -> None:
    graph = graph_of(make(), image())
    for layer in graph.layers:
        assert [group.name for group in graph.read_by(layer)] == [
            group.name for group in graph.groups if layer in graph.consumers(group)
        ]
    order = {layer.name: place for place, layer in enumerate(graph.layers)}
    for group in graph.groups:
        for layers in (graph.producers(group), graph.consumers(group)):
            places = [order[layer.name] for layer in layers]
            assert layers and places == sorted(places)


def test_a_module_that_holds_others_names_them_all() -> None:
    inner = nn.Sequential(nn.ReLU(), networks.conv(8, 6))
    model = nn.Sequential(networks.conv(3, 8), inner, networks.conv(6, 4))
    assert set(find_groups(model.eval(), (image(),)).widths) == {"0", "1.1"}
    assert set(find_groups(model.eval(), (image(),), ignore=["1"]).widths) == {"0"}
    graph = find_groups(model.eval(), (image(),))
    assert caps_of(graph, {"1": 0.5}) == {"0": 1.0, "1.1": 0.5}
