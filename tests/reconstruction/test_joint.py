"""Joint least squares: blocks are what they should be, coordinates whiten, and a fit never gets worse."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoprune.components import create
from autoprune.data.inputs import Inputs
from autoprune.errors import ModelError
from autoprune.graph import Slicer
from autoprune.memory import Limit
from autoprune.reconstruction import Bench, reconstructions
from autoprune.reconstruction.joint import joint
from autoprune.reconstruction.joint.blocks import LONGEST, blocks
from autoprune.reconstruction.replaying.recording import record_trace
from autoprune.reconstruction.replaying.trace import DiffersEachTime, check_alike
from autoprune.reconstruction.replaying.windows import Target, Window
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


class Inverted(nn.Module):
    """Two blocks around a stream: wider, depthwise, narrower again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.inner = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(6, 12, 1),
                nn.ReLU6(),
                nn.Conv2d(12, 12, 3, padding=1, groups=12),
                nn.ReLU6(),
                nn.Conv2d(12, 6, 1),
            )
            for _ in range(2)
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.inner:
            x = x + block(x)
        return self.head(x.flatten(2).mT)


def inverted_candidate() -> tuple[Bench, dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    images = 2 * torch.randn(64, 3, 8, 8)
    bench = make_bench(Inverted().eval(), images)
    kept = random_kept(bench.graph, 0.5, seed=1)
    return bench, {name: kept[name] for name in kept if name.startswith("inner")}, images


def test_chains_run_through_depthwise_convolutions() -> None:
    bench, _, _ = inverted_candidate()
    found = {tuple(layer.name for layer in window.trained) for window in blocks_of(bench)}
    assert found >= {(f"inner.{n}.0", f"inner.{n}.2", f"inner.{n}.4") for n in (0, 1)}


def test_a_shortcut_that_others_read_is_no_part_of_the_block_before() -> None:
    """A layer ends in the sum that adds its output, not in the next one, to which a shortcut carries it."""
    bench, _, _ = inverted_candidate()
    trace = record_trace(bench.model, bench.graph.layers, bench.chunks[0])
    after = {name: trace.calls[feature.after].name for name, feature in trace.features.items()}
    assert after["stem"] == "conv2d"
    assert {after["inner.0.4"], after["inner.1.4"]} == {"add"}


@pytest.mark.parametrize(("share", "stays"), [(0.009, True), (0.011, False)])
def test_outputs_known_by_heart_may_move_a_little(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, share: float, stays: bool
) -> None:
    """With more columns than images the sequential fit's own error is nothing to compare with."""
    bench, kept, images = inner_candidate()
    outputs = bench.model(images).detach()
    variance = float((outputs - outputs.mean(0)).square().sum())
    errors = iter([0.0, share * variance])
    monkeypatch.setattr(joint._Work, "_error", lambda work: next(errors))
    plain, found = (restored(bench, kept, method).state_dict() for method in ("sequential", "joint"))
    moved = any(not torch.equal(value, found[name]) for name, value in plain.items())
    assert moved is stays and ("sequential fit stays" in caplog.text) is not stays


def test_blocks_with_depthwise_convolutions_gain_from_a_joint_fit() -> None:
    bench, kept, images = inverted_candidate()
    errors = [
        relative_error(restored(bench, kept, how), bench.model, images) for how in ("sequential", "joint")
    ]
    assert errors[1] < 0.95 * errors[0]


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


def test_of_all_that_the_solver_tries_the_nearest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, kept, _ = inner_candidate()
    wanted, solve = restored(bench, kept, "joint"), torch.optim.LBFGS.step

    def gets_lost(solver: torch.optim.LBFGS, closure: Callable[[], Tensor]) -> None:
        solve(solver, closure)
        for leaf in solver.param_groups[0]["params"]:
            leaf.add_(10.0)
        closure()

    monkeypatch.setattr(torch.optim.LBFGS, "step", gets_lost)
    found = restored(bench, kept, "joint").state_dict()
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(found[name], value)


def test_more_steps_come_nearer() -> None:
    bench, kept, images = inner_candidate()
    found = [restored(bench, kept, "joint", steps=steps) for steps in (1, 24)]
    few, many = (relative_error(network, bench.model, images) for network in found)
    assert many < 0.97 * few


def test_other_views_of_the_images_are_fitted_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, kept, _ = inner_candidate()
    seen: list[int] = []
    monkeypatch.setattr(joint._BlockFit, "solve", lambda fit, *_: seen.append(fit.fitter.images.size))
    for views in ({}, {"mirror": True}, {"mirror": True, "crops": 2}):
        restored(bench, kept, "joint", **views)
    assert seen == [64] * 3 + [128] * 3 + [256] * 3


def test_more_images_make_a_batch_where_they_fill_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Inputs((torch.zeros(2_000, 3, 8, 8),))
    assert joint.images_at_once(images.take(100)) == 100
    assert joint.images_at_once(images) == joint.BATCH
    monkeypatch.setattr(joint, "_MORE", Limit(cpu=768 * 1_000, gpu=0, parts=1))
    assert joint.images_at_once(images) == 1_000


def test_the_start_looks_at_the_same_views(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, kept, _ = inner_candidate()
    monkeypatch.setattr(joint._Work, "run", lambda work: None)
    views = {"mirror": True, "crops": 2}
    found, expected = (restored(bench, kept, how, **views).state_dict() for how in ("joint", "sequential"))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_blocks_that_are_nearer_but_end_farther_off_are_put_back(seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.randn(64, 3, 8, 8)
    bench = make_bench(Bottlenecks().eval(), images)
    kept = random_kept(bench.graph, 0.5, seed=1)
    plain, found = (restored(bench, kept, method) for method in ("sequential", "joint"))
    assert relative_error(found, bench.model, images) <= relative_error(plain, bench.model, images)


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e6])
def test_units_of_activations_do_not_matter(unit: float) -> None:
    """ReLU and least squares are the same in any, so a solver's own thresholds must not show."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3)).eval()
    images, scaled = torch.randn(200, 10), copy.deepcopy(model)
    with torch.no_grad():
        for index, layer in enumerate(layer for layer in scaled if isinstance(layer, nn.Linear)):
            layer.bias *= unit
            layer.weight *= unit if index == 0 else 1.0
    errors = []
    for network in (model, scaled):
        bench = make_bench(network, images)
        kept = random_kept(bench.graph, 0.5, seed=1)
        errors.append(relative_error(restored(bench, kept, "joint"), network, images))
    assert errors[1] == pytest.approx(errors[0], rel=0.05)


class Aside(nn.Module):
    """A second head, the last layer to run, reads nothing that can be pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head, self.aside = Bottlenecks(), nn.Linear(4, 4), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.trunk(x).mean(1)), self.aside(x.mean((2, 3)))


def test_outputs_judge_whichever_layer_runs_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fit that spoils the trunk is put back, and said to be, though the last layer never changed."""
    torch.manual_seed(0)
    images = torch.randn(32, 3, 8, 8)
    bench = make_bench(Aside().eval(), images)
    kept = random_kept(bench.graph, 0.5, seed=1)

    def spoil(fit: joint._BlockFit, *_: object) -> None:
        with torch.no_grad():
            fit.parameters[0].mul_(3.0)

    monkeypatch.setattr(joint._BlockFit, "solve", spoil)
    plain, found = (restored(bench, kept, method).state_dict() for method in ("sequential", "joint"))
    assert all(torch.equal(value, found[name]) for name, value in plain.items())
    assert "sequential fit stays" in caplog.text


class Behind(nn.Module):
    """Layers of which no gradient reaches the first ones, or any."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second, self.third = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        without = {"inference": torch.inference_mode, "detach": contextlib.nullcontext}
        with without.get(self.how, torch.no_grad)():
            x = self.second(self.first(x).relu()).relu()
        with torch.no_grad() if self.how == "all" else contextlib.nullcontext():
            found: Tensor = self.head(self.third(x.detach() if self.how == "detach" else x).relu())
        return found


@pytest.mark.parametrize("method", ["joint", "casm"])
@pytest.mark.parametrize("how", ["no_grad", "inference", "detach"])
def test_what_no_gradient_reaches_stays_and_the_rest_is_fitted(method: str, how: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(64, 6)
    bench = make_bench(Behind(how).eval(), images)
    kept = random_kept(bench.graph, 0.5, seed=1)
    plain, found = (
        relative_error(restored(bench, kept, m), bench.model, images) for m in ("sequential", method)
    )
    assert found <= plain if method == "joint" else math.isfinite(found)


@pytest.mark.parametrize("method", ["joint", "casm"])
def test_a_network_that_runs_without_gradients_gets_advice(method: str) -> None:
    torch.manual_seed(0)
    bench = make_bench(Behind("all").eval(), torch.randn(64, 6))
    with pytest.raises(ModelError, match=r"runs without gradients .* use reconstruction 'sequential'"):
        restored(bench, random_kept(bench.graph, 0.5, seed=1), method)


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


@pytest.mark.parametrize(("before", "after", "stays"), [(0.5, 0.505, True), (0.001, 0.009, False)])
def test_only_what_was_known_by_heart_may_get_worse(
    before: float,
    after: float,
    stays: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    small, errors = NETWORKS["residual"], iter((before, after))
    bench = make_bench(small.model(), small.images(16))
    monkeypatch.setattr(joint._Work, "_error", lambda work: next(errors))
    monkeypatch.setattr(joint._Work, "_variance", lambda work: 1.0)
    restored(bench, random_kept(bench.graph, 0.5, seed=1), "joint")
    assert ("sequential fit stays" in caplog.text) is stays


def test_a_number_must_mean_the_same_call_in_both_networks() -> None:
    inputs = Inputs((torch.randn(2, 4),))
    relu, again, tanh = (
        record_trace(nn.Sequential(nn.Linear(4, 3), part).eval(), [], inputs)
        for part in (nn.ReLU(), nn.ReLU(), nn.Tanh())
    )
    check_alike(relu, again)
    with pytest.raises(DiffersEachTime):
        check_alike(relu, tanh)
