"""Weights-only compensation against direct least squares, and expected moments against drawn ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from autoprune.calibration.statistics import Statistics
from autoprune.graph import Role, Slicer
from autoprune.graph.groups import ChannelGroup
from autoprune.reconstruction import Bench, Filters
from autoprune.reconstruction.expected import ACTIVATIONS, activated, of_channels
from autoprune.reconstruction.filters import coefficients
from tests.small import NETWORKS, conv, make_bench, random_kept, relative_error

each_network = pytest.mark.parametrize("network", NETWORKS)
FITS = ["filters", "identity", "relu", "relu6", "gelu", "silu"]


def bench_of(network: str, damping: float = 1e-12) -> Bench:
    """A bench without any statistics: nothing here may look at an image."""
    small = NETWORKS[network]
    bench = make_bench(small.model(dtype=torch.float64), small.images(2, dtype=torch.float64))
    return dataclasses.replace(bench, statistics=Statistics({}, damping, 0), chunks=(), damping=damping)


def restored(bench: Bench, kept: dict[str, Tensor], fit: str) -> nn.Module:
    pruned = Slicer(bench.model, bench.graph).build(kept).eval()
    Filters(fit=fit).restore(bench, pruned, kept)  # type: ignore[arg-type]
    return pruned


def dense_filters(bench: Bench, group: ChannelGroup) -> Tensor:
    parts = []
    for member in group.of_role(Role.PRODUCER):
        tensor = bench.model.get_parameter(member.tensor).detach()
        if tensor.dim() > 1:
            rows = [tensor.select(member.dim, int(i)).flatten() for c in member.positions for i in c]
            parts.append(torch.stack(rows).reshape(group.width, -1))
    return torch.cat(parts, 1)


@each_network
def test_consumers_take_over_what_least_squares_on_the_filters_says(network: str) -> None:
    bench = bench_of(network)
    # Enough channels go that those that stay are independent: the coefficients are unique.
    kept = random_kept(bench.graph, 0.4)
    found = restored(bench, kept, "filters")
    wanted = {}
    for group in bench.graph.groups:
        filters, stays = dense_filters(bench, group), kept[group.name].tolist()
        for member in group.of_role(Role.CONSUMER):
            weight = wanted.get(member.tensor, bench.model.get_parameter(member.tensor).detach()).clone()
            for j in sorted(set(range(group.width)) - set(stays)):
                solution = torch.linalg.lstsq(filters[stays].mT, filters[j][:, None]).solution.squeeze(1)
                for share, channel in zip(solution, stays, strict=True):
                    for goes, takes in zip(member.positions[j], member.positions[channel], strict=True):
                        weight.select(member.dim, int(takes)).add_(
                            share * weight.select(member.dim, int(goes))
                        )
            wanted[member.tensor] = weight
    state = Slicer(_with(bench.model, wanted), bench.graph).state(kept)
    for name in wanted:
        torch.testing.assert_close(found.get_parameter(name).detach(), state[name], rtol=1e-6, atol=1e-8)


def _with(model: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    with torch.no_grad():
        for name, tensor in tensors.items():
            model.get_parameter(name).copy_(tensor)
    return model


@each_network
def test_only_what_reads_pruned_channels_changes(network: str) -> None:
    bench = bench_of(network)
    group = bench.graph.groups[0]
    kept = {group.name: torch.arange(1, group.width)}
    sliced = Slicer(bench.model, bench.graph).build(kept).state_dict()
    found = restored(bench, kept, "relu").state_dict()
    readers = bench.graph.consumers(group)
    may = {x for layer in readers for x in (layer.weight, layer.bias, f"{layer.norm}.running_mean")}
    changed = {name for name, tensor in found.items() if not tensor.equal(sliced[name])}
    assert {layer.weight for layer in readers} <= changed <= may


def linear_pair(seed: int = 0) -> tuple[nn.Sequential, Tensor]:
    """Producer, norm, consumer without activation; white noise images and exact batch-norm statistics."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(conv(3, 8, 1), nn.Conv2d(8, 5, 1, bias=True)).double()
    images = torch.randn(64, 3, 8, 8, generator=generator, dtype=torch.float64)
    norm = model[0][1]  # type: ignore[index]
    with torch.no_grad():
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
        nn.init.normal_(norm.bias, generator=generator)
        norm.momentum = None
        model.train()(images)
    return model.eval(), images


@pytest.mark.parametrize("fit", ["filters", "identity"])
def test_folding_the_norm_is_exact_where_nothing_but_the_norm_is_between(fit: str) -> None:
    model, images = linear_pair()
    bench = make_bench(model, images, damping=1e-12)
    (group,) = bench.graph.groups
    # Three weights per filter: any three that stay can replace all others.
    kept = {group.name: torch.tensor([1, 4, 6, 7])}
    error = relative_error(restored(bench, kept, fit), model, images)
    # Cosines assume inputs of equal variance in all directions; the images are so but for their number.
    assert error < 1e-3 if fit == "identity" else error > 1e-2


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_moments_after_an_activation_are_those_of_drawn_numbers(activation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    mean = torch.tensor([-1.0, 0.0, 0.5, 6.0], dtype=torch.float64)
    covariance, centre = activated(mix @ mix.mT, mean, ACTIVATIONS[activation])
    noise = torch.randn(400_000, 5, generator=generator, dtype=torch.float64)
    drawn = ACTIVATIONS[activation](noise @ mix.mT + mean)
    torch.testing.assert_close(centre, drawn.mean(0), rtol=0.02, atol=0.02)
    torch.testing.assert_close(covariance, drawn.mT.cov(), rtol=0.04, atol=0.04)


def test_equal_channels_stay_equal_and_silent_ones_silent() -> None:
    covariance = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    mean = torch.tensor([0.3, 0.3, -1.0], dtype=torch.float64)
    found, centre = activated(covariance, mean, ACTIVATIONS["relu"])
    torch.testing.assert_close(found[0, 0], found[0, 1])
    assert float(found[2].abs().max()) < 1e-12 and float(centre[2]) == 0


@each_network
@pytest.mark.parametrize("fit", FITS)
def test_every_fit_gives_finite_networks_for_every_group(network: str, fit: str) -> None:
    bench = bench_of(network, damping=1e-3)
    images = NETWORKS[network].images(8, dtype=torch.float64)
    for share in (0.0, 0.5):
        assert bool(restored(bench, random_kept(bench.graph, share), fit)(images).isfinite().all())
    for group in bench.graph.groups:
        found = of_channels(bench.model, bench.graph, group, "relu")
        norms = {layer.weight: layer.norm for layer in bench.graph.layers}
        producers = bench.graph.producers(group)
        assert found is not None and float(torch.linalg.eigvalsh(found.second(False)).min()) > -1e-10
        assert not found.centred or all(norms[layer.weight] is not None for layer in producers)


@pytest.mark.parametrize("network", ["chain", "residual", "separable"])
def test_it_mostly_helps(network: str) -> None:
    """No promise for a single candidate: without images an output may end farther off than as sliced."""
    small = NETWORKS[network]
    model, images = small.model(), small.images(48)
    bench = make_bench(model, images, damping=1e-3)
    ratios = []
    for seed in range(9):
        kept = random_kept(bench.graph, 0.7, seed)
        plain = Slicer(model, bench.graph).build(kept).eval()
        ratios.append(
            relative_error(restored(bench, kept, "relu"), model, images)
            / relative_error(plain, model, images)
        )
    assert sorted(ratios)[4] < 1


def test_coefficients_are_damped_relative_to_the_diagonal() -> None:
    filters = torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stays, gone = torch.tensor([0, 2, 5]), torch.tensor([1, 3, 4])
    second = filters @ filters.mT
    exact = torch.linalg.lstsq(filters[stays].mT, filters[gone].mT).solution.mT
    torch.testing.assert_close(coefficients(second, stays, gone, 1e-13), exact)
    torch.testing.assert_close(
        coefficients(second * 1e6, stays, gone, 0.1), coefficients(second, stays, gone, 0.1)
    )
    assert float(coefficients(second, stays, gone, 0.5).norm()) < float(exact.norm())


class _Separable(nn.Module):
    def __init__(self, norms: bool) -> None:
        super().__init__()
        first, between = nn.Conv2d(3, 12, 3, bias=not norms), nn.Conv2d(12, 12, 3, groups=12, bias=not norms)
        behind = [nn.BatchNorm2d(12), nn.ReLU()] if norms else []
        self.before = nn.Sequential(first, *([nn.BatchNorm2d(12)] if norms else []), nn.ReLU())
        self.between = nn.Sequential(between, *behind)
        self.last = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.before(x)))


def separable(norms: bool = True) -> tuple[nn.Module, Tensor]:
    """A network whose batch norms tell the truth of these images, and random scales and shifts."""
    torch.manual_seed(0)
    model, images = _Separable(norms).double(), torch.randn(200, 3, 10, 10, dtype=torch.float64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.5, 0.5)
    model.train()(images)
    return model.eval(), images


def test_moments_are_those_behind_a_depthwise_convolution() -> None:
    model, images = separable()
    graph = make_bench(model, images[:2]).graph
    found = of_channels(model, graph, graph.groups[0], "relu")
    seen = model.between(model.before(images)).movedim(1, 0).flatten(1)
    assert found is not None and found.centred
    torch.testing.assert_close(found.mean, seen.mean(1), rtol=0.1, atol=0.05)
    # Places are not independent as it takes them to be: half of a variance may be off.
    assert bool(((found.covariance.diagonal() / seen.var(1)).log().abs() < 0.5).all())


def test_channels_are_alike_where_both_of_their_filters_are() -> None:
    model, images = separable()
    with torch.no_grad():
        model.before[0].weight[:3] = model.before[0].weight[0]
        model.between[0].weight[1:3] = torch.stack([model.between[0].weight[0], -model.between[0].weight[0]])
        for norm in (model.before[1], model.between[1]):
            norm.weight[:3], norm.bias[:3] = 1.0, 0.5
            norm.reset_running_stats()
        model.train()(images)
    graph = make_bench(model.eval(), images[:2]).graph
    found = of_channels(model, graph, graph.groups[0], "relu")
    assert found is not None
    deviation = found.covariance.diagonal().sqrt()
    expected = found.covariance / deviation / deviation[:, None]
    seen = torch.corrcoef(model.between(model.before(images)).movedim(1, 0).flatten(1))
    assert expected[0, 1] > 0.99 and seen[0, 1] > 0.99
    assert expected[0, 2] < -0.3 and seen[0, 2] < -0.3, "what one lets through the other cuts off"


@pytest.mark.parametrize("norms", [True, False])
def test_a_twin_behind_a_depthwise_convolution_is_taken_over_exactly(norms: bool) -> None:
    model, images = separable(norms)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if not name.startswith("last"):
                tensor[1::2] = tensor[::2]
        for tensor in model.buffers():
            if tensor.dim():
                tensor[1::2] = tensor[::2]
    bench = make_bench(model, images[:2], damping=1e-12)
    found = restored(bench, {bench.graph.groups[0].name: torch.arange(0, 12, 2)}, "relu")
    assert relative_error(found, model, images) < 1e-6


def test_nothing_is_promised_where_some_read_before_and_some_behind() -> None:
    class Both(_Separable):
        def __init__(self) -> None:
            super().__init__(norms=True)
            self.head = nn.Conv2d(12, 5, 3)

        def forward(self, x: Tensor) -> Tensor:
            read = self.before(x)
            return self.head(read) + self.last(self.between(read))

    model = Both().double().eval()
    graph = make_bench(model, torch.randn(2, 3, 10, 10, dtype=torch.float64)).graph
    assert of_channels(model, graph, graph.groups[0], "relu") is None


class _Joined(nn.Module):
    """A depthwise convolution over the channels of two groups, the second in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.between = nn.Sequential(
            nn.Conv2d(10, 10, 3, groups=10, bias=False), nn.BatchNorm2d(10), nn.ReLU()
        )
        self.last = nn.Conv2d(10, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(torch.cat([self.a(x), self.b(x).flip(1)], 1)))


def test_channels_are_found_where_they_lie_in_a_depthwise_convolution() -> None:
    torch.manual_seed(0)
    model, images = _Joined().double(), torch.randn(200, 3, 10, 10, dtype=torch.float64)
    nn.init.normal_(model.between[1].bias, 0.0, 1.0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()(images)
    bench = make_bench(model.eval(), images)
    groups = {group.width: group for group in bench.graph.groups}
    means = model.between(torch.cat([model.a(images), model.b(images).flip(1)], 1)).mean((0, 2, 3))
    for width, seen in ((6, means[:6]), (4, means[6:].flip(0))):
        found = of_channels(model, bench.graph, groups[width], "relu")
        assert found is not None
        torch.testing.assert_close(found.mean, seen, rtol=0.15, atol=0.1)
    kept = {group.name: torch.arange(group.width // 2) for group in bench.graph.groups}
    left_alone = relative_error(Slicer(model, bench.graph).build(kept).eval(), model, images)
    assert relative_error(restored(bench, kept, "relu"), model, images) < left_alone


def test_a_depthwise_convolution_that_multiplies_channels_promises_nothing() -> None:
    between = [nn.Conv2d(8, 16, 3, groups=8), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), *between, nn.Conv2d(16, 4, 1))
    images = torch.randn(16, 3, 10, 10, dtype=torch.float64)
    bench = make_bench(model.double().eval(), images)
    assert of_channels(model, bench.graph, bench.graph.groups[0], "relu") is None
    restored(bench, {"0": torch.arange(4)}, "relu")
