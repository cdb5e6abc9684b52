"""Joint least squares: blocks are what they should be, coordinates whiten, and a fit never gets worse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoprune.calibration.moments import Moments
from autoprune.components import create
from autoprune.graph import Slicer
from autoprune.reconstruction import Bench, reconstructions
from autoprune.reconstruction.casm.trace import record_trace
from autoprune.reconstruction.casm.windows import Target, Window
from autoprune.reconstruction.joint import joint
from autoprune.reconstruction.joint.blocks import LONGEST, blocks
from autoprune.reconstruction.joint.coordinates import Coordinates, Curvature, carried_back, inverse_root
from tests.small import NETWORKS, make_bench, random_kept, relative_error

each_network = pytest.mark.parametrize("network", NETWORKS)


def restored(bench: Bench, kept: dict[str, Tensor], method: str, **options: object) -> nn.Module:
    network = Slicer(bench.model, bench.graph).build(kept).eval()
    with torch.no_grad():
        create(reconstructions, method, options).restore(bench, network, kept)
    return network


def blocks_of(bench: Bench) -> list[Window]:
    trace = record_trace(bench.model, bench.graph.layers, bench.chunks[0])
    targets = [
        Target(layer, trace.features[layer.name].after, torch.arange(layer.shape[0]))
        for layer in bench.graph.layers
        if layer.name in trace.features and layer.name not in trace.repeated
    ]
    return blocks(bench.graph, trace, targets)


class Bottlenecks(nn.Module):
    """Two residual blocks of three layers; the first has a convolution in its shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(n, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 12, 1)])
            for n in (8, 12)
        )
        self.down = nn.Conv2d(8, 12, 1)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for number, (first, second, third) in enumerate(self.inner):
            y = third(second(first(x).relu()).relu())
            x = (y + (self.down(x) if number == 0 else x)).relu()
        return self.head(x.flatten(2).mT)


def test_a_block_is_fitted_with_the_convolution_in_its_shortcut() -> None:
    torch.manual_seed(0)
    bench = make_bench(Bottlenecks().eval(), torch.randn(16, 3, 8, 8))
    found = {tuple(layer.name for layer in window.trained) for window in blocks_of(bench)}
    assert ("inner.0.0", "inner.0.1", "inner.0.2", "down") in found
    assert ("inner.1.0", "inner.1.1", "inner.1.2") in found and ("head",) in found


@each_network
def test_cuts_move_forward_and_nothing_is_left_out(network: str) -> None:
    small = NETWORKS[network]
    bench = make_bench(small.model(), small.images(8))
    found = blocks_of(bench)
    starts = [window.start for window in found]
    assert starts == sorted(starts)
    assert all(len(window.targets) == 1 and window.start < window.end for window in found)
    trace = record_trace(bench.model, bench.graph.layers, bench.chunks[0])
    trained = {layer.name for window in found for layer in window.trained}
    assert trained >= {name for name in trace.features if name not in trace.repeated and "up" not in name}


def test_long_chains_are_fitted_pair_by_pair() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width in range(LONGEST + 2):
        layers += [nn.Linear(8 if width else 5, 8), nn.ReLU()]
    bench = make_bench(nn.Sequential(*layers, nn.Linear(8, 3)).eval(), torch.randn(32, 5))
    assert all(len(window.trained) == 2 for window in blocks_of(bench))


@each_network
def test_a_joint_fit_is_nearer_to_the_dense_network(network: str) -> None:
    small = NETWORKS[network]
    images = small.images(64)
    bench = make_bench(small.model(), images)
    kept = random_kept(bench.graph, 0.5, seed=3)
    plain = relative_error(restored(bench, kept, "sequential"), bench.model, images)
    joint = relative_error(restored(bench, kept, "joint"), bench.model, images)
    assert joint <= plain * 1.0001


def inner_candidate() -> tuple[Bench, dict[str, Tensor], Tensor]:
    """Bottlenecks that have lost channels inside their blocks alone."""
    torch.manual_seed(0)
    images = torch.randn(64, 3, 8, 8)
    bench = make_bench(Bottlenecks().eval(), images)
    kept = random_kept(bench.graph, 0.5, seed=1)
    return bench, {name: kept[name] for name in kept if name[-2:] in (".0", ".1")}, images


def test_it_gives_the_block_and_not_the_channels_inside() -> None:
    bench, kept, images = inner_candidate()
    networks = [restored(bench, kept, method) for method in ("sequential", "joint")]
    errors = [relative_error(network, bench.model, images) for network in networks]
    assert errors[1] < 0.95 * errors[0]


def test_more_steps_come_nearer() -> None:
    bench, kept, images = inner_candidate()
    found = [restored(bench, kept, "joint", steps=steps) for steps in (1, 24)]
    few, many = (relative_error(network, bench.model, images) for network in found)
    assert many < 0.97 * few


def test_mirrored_images_are_fitted_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, kept, _ = inner_candidate()
    seen: list[int] = []
    monkeypatch.setattr(joint._BlockFit, "solve", lambda fit, *_: seen.append(fit.fitter.images.size))
    for mirror in (False, True):
        restored(bench, kept, "joint", mirror=mirror)
    assert seen == [64] * 3 + [128] * 3


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_blocks_that_are_nearer_but_end_farther_off_are_put_back(seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.randn(64, 3, 8, 8)
    bench = make_bench(Bottlenecks().eval(), images)
    kept = random_kept(bench.graph, 0.5, seed=1)
    plain, found = (restored(bench, kept, method) for method in ("sequential", "joint"))
    assert relative_error(found, bench.model, images) <= relative_error(plain, bench.model, images)


def test_the_dense_network_is_left_alone_and_a_whole_candidate_too() -> None:
    small = NETWORKS["residual"]
    bench = make_bench(small.model(), small.images(16))
    before = {name: value.clone() for name, value in bench.model.state_dict().items()}
    network = restored(bench, bench.graph.all_kept(), "joint")
    restored(bench, random_kept(bench.graph, 0.5, seed=0), "joint")
    after, whole = bench.model.state_dict(), network.state_dict()
    assert all(
        torch.equal(value, after[name]) and torch.equal(value, whole[name]) for name, value in before.items()
    )


def test_an_inverse_root_whitens() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(500, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    matrix = inputs.mT @ inputs / 500
    root = inverse_root(matrix, 1e-9)
    torch.testing.assert_close(root @ matrix @ root, torch.eye(6, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert bool(inverse_root(torch.zeros(3, 3), 1e-3).isfinite().all())


@pytest.mark.parametrize("centred", [True, False])
def test_a_mean_counts_where_no_constant_can_follow(centred: bool) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(3, 500) + 2.0
    found = Curvature.of(Moments.of(inputs.unsqueeze(0)), torch.arange(3), 1e-6, centred)
    moved = found.root @ (inputs.double() - found.mean)
    assert bool(found.mean.any()) is centred
    torch.testing.assert_close(moved @ moved.mT / 500, torch.eye(3).double(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(7, 4, 3, 3), (7, 8)])
def test_curvature_is_carried_back_through_a_layer(shape: tuple[int, ...]) -> None:
    """As many inputs as channels: the square of what a change of the inputs does to the outputs."""
    torch.manual_seed(0)
    weight = torch.randn(shape)
    change = torch.randn(4, dtype=torch.float64)
    found = change @ carried_back(torch.eye(7, dtype=torch.float64), weight, 4) @ change
    taps = torch.einsum("ock,c->ok", weight.double().reshape(7, 4, -1), change)
    torch.testing.assert_close(found, taps.square().sum())


def test_gradients_in_coordinates_are_those_of_the_layer() -> None:
    torch.manual_seed(0)
    inputs, wanted = torch.randn(200, 5) + 2.0, torch.randn(200, 3)
    layer = nn.Linear(5, 3)
    moments = Moments.of(inputs.mT.unsqueeze(0))
    one = Coordinates(
        layer.weight,
        layer.bias,
        torch.ones(3),
        Curvature.of(moments, torch.arange(5), 0.5, True),
        torch.eye(3),
    )

    def loss() -> Tensor:
        one.apply()
        layer.zero_grad()
        error = 0.5 * (layer(inputs) - wanted).square().sum(1).mean()
        error.backward()
        one.pull()
        return error.detach() + one.penalty()

    one.moved[1, 2] = 2.0
    start = loss()
    gradient = one.moved.grad
    assert gradient is not None
    slope = float(gradient[1, 2])
    one.moved[1, 2] += 1e-3
    assert float(loss() - start) / 1e-3 == pytest.approx(slope, rel=0.05)
