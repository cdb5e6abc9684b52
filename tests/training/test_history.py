"""The recorder notes L1 norms of filters, for dense and pruned networks, and files survive only intact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from autoprune.criteria import group_view
from autoprune.errors import DataError
from autoprune.graph import Slicer
from autoprune.graph.groups import ChannelGraph
from autoprune.training.history import History, HistoryRecorder, producer_weights
from autoprune.training.pairs import GroupNorms
from tests.small import NETWORKS, graph_of, make_bench, random_kept


def recorded(model: nn.Module, graph: ChannelGraph, epochs: int = 3) -> History:
    recorder = HistoryRecorder(model, graph)
    for epoch in range(epochs):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.0 + 0.1 * epoch)
        recorder(model, "whatever a loop passes")
    return recorder.history()


def test_norms_are_those_of_the_filters_at_the_time() -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers)
    graph = graph_of(model, torch.zeros(1, 3, 8, 8))
    before = model[0].weight.detach().abs().sum((1, 2, 3)).double()
    history = recorded(model, graph)
    assert history.epochs == 3 and set(history.norms) == {"0.weight"}
    wanted = torch.stack([before, before * 1.1, before * 1.1 * 1.2])
    assert torch.allclose(history.norms["0.weight"], wanted, rtol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_group_has_the_norms_of_its_producers(network: str) -> None:
    small = NETWORKS[network]
    model = small.model()
    bench = make_bench(model, small.images(8))
    history = recorded(model, bench.graph).check(model, bench.graph)
    places = GroupNorms(bench.graph, {})
    for group in bench.graph.groups:
        norms = places.of_history(history, group)
        assert norms.shape[1:] == (3, group.width)
        view = group_view(model, bench.graph, bench.statistics, group, 0, history.norms)
        assert view.history is not None and torch.equal(view.history, norms)
        now = view.filters.double().abs().sum(1)
        assert torch.allclose(norms[:, -1].sum(0), now, rtol=1e-6)
        assert torch.allclose(places.of_network(model, group.name).double(), now, rtol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_pruned_network_has_the_norms_of_the_channels_it_kept(network: str) -> None:
    small = NETWORKS[network]
    model = small.model()
    graph = graph_of(model, small.images(1))
    kept = random_kept(graph, 0.6)
    pruned = Slicer(model, graph).build(kept)
    history = recorded(pruned, graph, epochs=1).check(pruned, graph)
    for group in graph.groups:
        norms = GroupNorms(graph, kept).of_history(history, group).sum((0, 1))
        assert norms.shape == (len(kept[group.name]),)
        assert torch.allclose(norms, GroupNorms(graph, kept).of_network(pruned, group.name).double())
    if any(len(indices) < graph.widths[name] for name, indices in kept.items()):
        with pytest.raises(DataError, match="record it on this network"):
            history.check(model, graph)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    model = NETWORKS["chain"].model()
    graph = graph_of(model, NETWORKS["chain"].images(1))
    history = recorded(model, graph)
    path = tmp_path / "deep" / "history.safetensors"
    history.save(path)
    again = History.load(path)
    assert again.fingerprint == history.fingerprint and again.epochs == 3
    assert all(torch.equal(again.norms[name], norms) for name, norms in history.norms.items())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not readable"):
        History.load(path)
    with pytest.raises(DataError, match="cannot be read"):
        History.load(tmp_path / "absent")


@pytest.mark.parametrize("fault", ["absent", "width", "epochs", "nan"])
def test_the_history_of_another_network_is_refused(fault: str) -> None:
    model = NETWORKS["chain"].model()
    graph = graph_of(model, NETWORKS["chain"].images(1))
    norms = dict(recorded(model, graph).norms)
    name = list(producer_weights(graph))[1]
    if fault == "absent":
        del norms[name]
    else:
        changed = {"width": norms[name][:, 1:], "epochs": norms[name][1:], "nan": norms[name] * float("nan")}
        norms[name] = changed[fault]
    with pytest.raises(DataError, match=name):
        History(norms).check(model, graph)
    with pytest.raises(DataError, match="at least one epoch"):
        HistoryRecorder(model, graph).history()
