"""Reslicing: a pruned network cut again is the dense one cut at once."""

from __future__ import annotations

import pytest
import torch

from autoprune.errors import PlanError
from autoprune.graph import Slicer
from autoprune.graph.capture import named_state
from autoprune.graph.groups import ChannelGraph, Kept
from autoprune.graph.reslicing import reslice
from tests.small import NETWORKS, graph_of, random_kept


def narrower(graph: ChannelGraph, kept: Kept) -> dict[str, torch.Tensor]:
    """Every other of the kept channels."""
    return {group.name: kept[group.name][::2] for group in graph.groups}


@pytest.mark.parametrize("network", NETWORKS)
def test_reslicing_equals_slicing_where_nothing_was_trained(network: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(), small.images(4)
    graph = graph_of(model, images[:1])
    before = random_kept(graph, 0.7)
    kept = narrower(graph, before)
    slicer = Slicer(model, graph)
    found = reslice(model, graph, slicer.build(before), before, kept)
    wanted = slicer.build(kept)
    assert named_state(found).keys() == named_state(wanted).keys()
    for name, tensor in named_state(wanted).items():
        assert torch.equal(named_state(found)[name], tensor), name
    assert torch.equal(found.eval()(images), wanted.eval()(images))


def test_trained_weights_come_along_and_are_copies() -> None:
    small = NETWORKS["residual"]
    model, image = small.model(), small.images(1)
    graph = graph_of(model, image)
    before = random_kept(graph, 0.7)
    network = Slicer(model, graph).build(before)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    same = reslice(model, graph, network, before, before)
    for name, tensor in named_state(network).items():
        assert torch.equal(named_state(same)[name], tensor)
        assert named_state(same)[name].data_ptr() != tensor.data_ptr()
    assert not torch.equal(same.eval()(image), Slicer(model, graph).build(before).eval()(image))


def test_channels_that_are_gone_do_not_come_back() -> None:
    small = NETWORKS["chain"]
    model, image = small.model(), small.images(1)
    graph = graph_of(model, image)
    name = graph.groups[0].name
    before, kept = {name: torch.tensor([0, 1, 4])}, {name: torch.tensor([0, 2])}
    with pytest.raises(PlanError, match=rf"'{name}'.*got \[2\]"):
        reslice(model, graph, Slicer(model, graph).build(before), before, kept)
    with pytest.raises(PlanError, match="no longer has"):
        reslice(model, graph, Slicer(model, graph).build(before), before, {})
