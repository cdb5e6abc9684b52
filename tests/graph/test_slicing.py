"""Slicing: keep-all is the identity, the original is untouched, candidates can follow one another."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autoprune.errors import ConfigError, PlanError
from autoprune.graph import Kept, Slicer, layer_positions, mask_consumers, validate_kept

from . import networks
from .helpers import graph_of, image, random_kept

MODELS = [networks.Residual, networks.Depthwise, networks.Scaled, networks.TiedNames, networks.Upward]


@pytest.mark.parametrize("build", MODELS)
def test_keeping_everything_is_the_identity(build: type[nn.Module]) -> None:
    model = build().eval()
    graph = graph_of(model)
    same = Slicer(model, graph).build(graph.all_kept())
    assert type(same) is build
    assert torch.equal(model(image()), same(image()))
    same.load_state_dict(model.state_dict())


@pytest.mark.parametrize("build", MODELS)
def test_one_skeleton_serves_many_candidates(build: type[nn.Module]) -> None:
    model = build().eval()
    graph = graph_of(model)
    slicer, skeleton = Slicer(model, graph), build().eval()
    skeleton.load_state_dict(model.state_dict())
    for name, buffer in model.named_buffers():
        skeleton.get_buffer(name).copy_(buffer)
    for kept in (random_kept(graph, 0.3), random_kept(graph, 0.7, seed=1), {}):
        slicer.apply(skeleton, slicer.state(kept), kept)
        built = slicer.build(kept)
        assert torch.equal(skeleton(image()), built(image()))
        assert repr(skeleton) == repr(built)


def test_built_network_owns_its_weights() -> None:
    model = networks.Residual().eval()
    model.first.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    built = Slicer(model, graph_of(model)).build({"first": torch.arange(5)})
    storages = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not storages & {tensor.data_ptr() for tensor in built.state_dict().values()}
    assert not built.first.weight.requires_grad and built.second.weight.requires_grad
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert (built.first.out_channels, built.second.in_channels, model.first.out_channels) == (5, 5, 12)


def test_depthwise_convolution_gets_its_new_number_of_groups() -> None:
    model = networks.Depthwise().eval()
    built = Slicer(model, graph_of(model)).build({"first": torch.tensor([0, 2, 5])})
    assert (built.depth.groups, built.depth.in_channels, built.depth.out_channels) == (3, 3, 6)
    assert torch.equal(built.depth.weight, model.depth.weight[[0, 1, 4, 5, 10, 11]])
    assert built.norm.num_features == 6


def test_norms_without_tensors_learn_how_many_channels_come() -> None:
    model = networks.Normed(nn.InstanceNorm2d(8)).eval()
    built = Slicer(model, graph_of(model)).build({"first": torch.arange(5)})
    assert built.norm.num_features == 5
    built(torch.randn(2, 3, 8, 8))  # warns of another number, and warnings are errors

    model = networks.Normed(nn.GroupNorm(4, 8, affine=False)).eval()
    built = Slicer(model, graph_of(model)).build({"first": torch.tensor([0, 3])})
    assert (built.norm.num_groups, built.norm.num_channels) == (2, 4)


def test_tied_parameters_stay_tied() -> None:
    model = networks.TiedNames().eval()
    built = Slicer(model, graph_of(model)).build({"first": torch.arange(3)})
    assert built.left.weight is built.right.weight
    assert built.left.weight.shape[:2] == (3, 3)


def test_given_tensors_replace_sliced_ones() -> None:
    model = networks.Residual().eval()
    weight = torch.randn(8, 4, 3, 3)
    built = Slicer(model, graph_of(model)).build({"first": torch.arange(4)}, {"second.weight": weight})
    assert torch.equal(built.second.weight, weight)


def test_unknown_tensor_is_refused() -> None:
    model = networks.Residual().eval()
    slicer = Slicer(model, graph_of(model))
    with pytest.raises(PlanError, match=r"did you mean 'second.weight'"):
        slicer.build({}, {"secnd.weight": torch.randn(1)})
    with pytest.raises(PlanError, match="unknown tensor"):
        slicer.apply(networks.Residual(), {"nothing": torch.randn(1)}, {})


def test_layer_positions_are_rows_and_columns() -> None:
    graph = graph_of(networks.FlattenLinear())
    hidden = next(layer for layer in graph.layers if layer.name == "hidden")
    rows, columns = layer_positions(
        graph, hidden, {"second": torch.tensor([1, 3]), "hidden": torch.tensor([0, 9])}
    )
    assert rows.tolist() == [0, 9]
    assert columns.tolist() == [4, 5, 6, 7, 12, 13, 14, 15]


def test_masking_zeroes_what_reads_removed_channels() -> None:
    model = networks.Concat().eval()
    graph = graph_of(model)
    mask_consumers(model, graph, {"right": torch.arange(1, 10)})
    gone = (model.join.weight == 0).flatten(2).all(2).all(0)
    assert gone.nonzero().flatten().tolist() == [6]


@pytest.mark.parametrize(
    ("kept", "error", "message"),
    [
        ({"frist": torch.arange(3)}, ConfigError, "did you mean 'first'"),
        ({"first": torch.tensor([0, 12])}, PlanError, "indices from 0 to 12"),
        ({"first": torch.tensor([-1, 2])}, PlanError, "indices from -1"),
        ({"first": torch.tensor([], dtype=torch.int64)}, PlanError, "got none"),
        ({"first": torch.tensor([2, 1])}, PlanError, "not strictly rising"),
        ({"first": torch.tensor([1, 1])}, PlanError, "not strictly rising"),
        ({"first": torch.tensor([1.0])}, PlanError, "not one list of int64"),
    ],
)
def test_candidates_are_validated(kept: Kept, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        validate_kept(graph_of(networks.Residual()), kept)
