"""Gradients of producers, by hand and on sliced networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autoprune.data.inputs import Inputs
from autoprune.errors import ModelError
from autoprune.graph import Slicer
from autoprune.searching.gradients import BATCH, measure_gradients, rebatched, self_labelled
from tests.small import NETWORKS, graph_of, random_kept

each_network = pytest.mark.parametrize("network", NETWORKS)


def labelled(network: str, count: int) -> list[tuple[Inputs, torch.Tensor]]:
    images = NETWORKS[network].images(count)
    classes = torch.arange(count) % 5
    return [(Inputs((part,)), labels) for part, labels in zip(images.split(8), classes.split(8), strict=True)]


@each_network
def test_masked_and_sliced_networks_have_the_same_gradients(network: str) -> None:
    """The sliced network's sums are those of the kept rows and columns of the masked one."""
    small = NETWORKS[network]
    model = small.model(dtype=torch.float64)
    graph = graph_of(small.model(), small.images(1))
    kept = random_kept(graph)
    batches = [(Inputs((x.args[0].double(),)), y) for x, y in labelled(network, 16)]
    sliced = Slicer(model, graph).build(kept)
    before = {name: tensor.clone() for name, tensor in sliced.state_dict().items()}
    found = measure_gradients(model, graph, sliced, kept, batches)
    assert all(tensor.equal(before[name]) for name, tensor in sliced.state_dict().items())
    with torch.no_grad():
        losses = [float(F.cross_entropy(x.call(sliced), y)) for x, y in batches]
    assert found.loss == pytest.approx(np.mean(losses))
    for group in graph.groups:
        producers = graph.producers(group)
        assert len(found.layers[group.name]) == len(producers)
        for layer, producer in zip(found.layers[group.name], producers, strict=True):
            weight = sliced.get_parameter(producer.weight)
            assert len(layer.norms) == len(kept[group.name])
            if layer.weights == weight.numel():
                assert layer.norms.sum() == pytest.approx(float(weight.detach().abs().sum()))
                sums = []
                for inputs, labels in batches:
                    (slope,) = torch.autograd.grad(F.cross_entropy(inputs.call(sliced), labels), weight)
                    sums.append(float(torch.where(slope == 0, 1e7, 1 / slope.abs()).sum()))
                assert layer.inverse_gradients == pytest.approx(np.mean(sums))


def test_norms_follow_the_channels() -> None:
    small = NETWORKS["residual"]
    model, kept = small.model(), {}
    graph = graph_of(model, small.images(1))
    found = measure_gradients(model, graph, small.model(), graph.all_kept(), labelled("residual", 8))
    for group in graph.groups:
        kept[group.name] = torch.arange(group.width)[::2].contiguous()
        for layer, producer in zip(found.layers[group.name], graph.producers(group), strict=True):
            norms = model.get_parameter(producer.weight).detach().flatten(1).abs().sum(1)
            assert layer.norms == pytest.approx(norms.numpy())
            assert layer.weights == model.get_parameter(producer.weight).numel()


def test_exact_zeros_count_ten_million() -> None:
    small = NETWORKS["chain"]
    model = small.model()
    graph = graph_of(model, small.images(1))
    dead = small.model()
    with torch.no_grad():
        norm = dead[1] if isinstance(dead[1], nn.BatchNorm2d) else dead[0][1]
        norm.weight[0], norm.bias[0] = 0.0, -1.0
    found = measure_gradients(model, graph, dead, graph.all_kept(), labelled("chain", 8))
    first = found.layers[graph.groups[0].name][0]
    assert first.inverse_gradients >= 27 * 1e7


def test_own_answers_label_images_in_batches() -> None:
    small = NETWORKS["chain"]
    model, images = small.model(), small.images(BATCH + 5)
    batches = rebatched(self_labelled(model, [Inputs((images[:9],)), Inputs((images[9:],))]))
    assert [inputs.size for inputs, _ in batches] == [BATCH, 5]
    with torch.no_grad():
        assert torch.cat([labels for _, labels in batches]).equal(model(images).argmax(1))


def test_a_network_behind_which_no_gradient_comes_gets_advice() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.head(self.second(self.first(x).relu()).relu().detach())
            return found

    model = Detached().eval()
    graph = graph_of(model, torch.randn(1, 6))
    batches = [(Inputs((torch.randn(8, 6),)), torch.arange(8) % 5)]
    with pytest.raises(ModelError, match="choose another strategy"):
        measure_gradients(model, graph, model, graph.all_kept(), batches)
