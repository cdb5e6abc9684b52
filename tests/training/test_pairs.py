"""Pairs of like history, and a regulariser whose gradient reaches both members."""

from __future__ import annotations

import pytest
import torch

from autoprune.criteria import criteria, group_view
from autoprune.graph import Slicer
from autoprune.training.pairs import GroupNorms, Pairs, closest_pairs, pair_distance
from tests.small import NETWORKS, make_bench, random_kept
from tests.training.test_history import recorded


def test_the_closest_pairs_lose_the_member_of_smaller_norm() -> None:
    history = torch.tensor([[[1.0, 5.0, 1.2, 9.0, 5.1], [2.0, 6.0, 2.2, 9.0, 6.1]]])
    pairs = closest_pairs(history, 2)
    assert pairs.gone.tolist() == [1, 0] and pairs.stays.tolist() == [4, 2]
    larger = closest_pairs(history, 2, "larger")
    assert larger.gone.tolist() == [4, 2] and larger.stays.tolist() == [1, 0]


def test_distance_counts_every_epoch_and_producer() -> None:
    """Alike at the end is not alike: channels 0 and 1 end with the same norm, 2 and 3 go together."""
    one = torch.tensor([[0.0, 4.0, 8.0, 8.5], [5.0, 5.0, 9.0, 9.5]])
    assert closest_pairs(one[None], 1).gone.tolist() == [2]
    apart = torch.tensor([[1.0, 1.0, 1.0, 9.0], [1.0, 1.0, 1.0, 9.0]])
    assert closest_pairs(torch.stack([one, apart]), 1).gone.tolist() == [0]


@pytest.mark.parametrize("remove", ["smaller", "larger"])
def test_pairs_agree_with_the_criterion(remove: str) -> None:
    small = NETWORKS["residual"]
    model = small.model()
    bench = make_bench(model, small.images(8))
    history = recorded(model, bench.graph)
    for group in bench.graph.groups:
        view = group_view(model, bench.graph, bench.statistics, group, 0, history.norms)
        chooser = criteria["history"](remove=remove)  # type: ignore[call-arg]
        norms = GroupNorms(bench.graph, {}).of_history(history, group)
        pairs = closest_pairs(norms, group.width - 1, remove)  # type: ignore[arg-type]
        assert len(pairs.gone) == group.width - 1 == len(set(pairs.gone.tolist()))
        assert pairs.gone.tolist() == chooser.order(view, 1)[:-1].tolist()
        for at, partner in enumerate(pairs.stays.tolist()):
            assert partner not in pairs.gone[: at + 1].tolist(), "paired with a channel already gone"


@pytest.mark.parametrize("network", NETWORKS)
def test_the_gradient_agrees_with_finite_differences(network: str) -> None:
    small = NETWORKS[network]
    dense = small.model(dtype=torch.float64)
    graph = make_bench(small.model(), small.images(8)).graph
    kept = random_kept(graph, 0.8)
    model, norms = Slicer(dense, graph).build(kept), GroupNorms(graph, kept)
    one = Pairs(torch.tensor([0]), torch.tensor([1]))
    pairs = {group.name: one for group in graph.groups if len(kept[group.name]) > 1}
    loss = pair_distance(norms, model, pairs)
    torch.autograd.backward(loss)
    generator = torch.Generator().manual_seed(0)
    steps = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in model.named_parameters()}
    slope = sum(float((p.grad * steps[n]).sum()) for n, p in model.named_parameters() if p.grad is not None)
    # The group's mean norm is a constant to the gradient, so it must be one here, too.
    means = {name: float(norms.of_network(model, name).detach().mean()) for name in pairs}
    found = []
    for sign in (1, -1):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(steps[name], alpha=sign * 1e-6)
            each = {name: norms.of_network(model, name) for name in pairs}
            found.append(sum(float((n[0] - n[1]).abs()) / means[g] for g, n in each.items()) / len(pairs))
            for name, parameter in model.named_parameters():
                parameter.sub_(steps[name], alpha=sign * 1e-6)
    assert slope == pytest.approx((found[0] - found[1]) / 2e-6, rel=1e-4)


def test_descending_makes_pairs_alike_from_both_sides() -> None:
    small = NETWORKS["residual"]
    model = small.model()
    graph = make_bench(model, small.images(8)).graph
    norms, name = GroupNorms(graph, {}), graph.groups[1].name
    pairs = {name: Pairs(torch.tensor([0]), torch.tensor([3]))}
    before = norms.of_network(model, name).detach()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        torch.autograd.backward(pair_distance(norms, model, pairs))
        optimizer.step()
    after = norms.of_network(model, name).detach()
    assert abs(after[0] - after[3]) < abs(before[0] - before[3])
    moved = (after - before) * torch.sign(before[0] - before[3])
    assert moved[0] < 0 < moved[3]
    others = [i for i in range(len(before)) if i not in (0, 3)]
    assert torch.equal(after[others], before[others])
