"""Solutions against direct least squares on the data, and by the conditions that an optimum fulfils."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.calibration.call import LayerCall
from autoprune.calibration.columns import Grid, input_columns, output_columns
from autoprune.calibration.flow import Branch, FlowHandler, FlowTap
from autoprune.calibration.moments import Moments
from autoprune.calibration.statistics import centred
from autoprune.graph import Slicer
from autoprune.reconstruction import Bench, Independent, Sequential, refit, restore
from autoprune.reconstruction.independent import affected
from autoprune.reconstruction.least_squares import Solution
from autoprune.reconstruction.sequential import disturbed
from tests.small import NETWORKS, make_bench, random_kept, relative_error

F64 = torch.float64


def lstsq(inputs: Tensor, targets: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
    """Weight (out, n) and constant (out,) for inputs (n, columns), targets (out, columns)."""
    ones = torch.ones(1, inputs.shape[1], dtype=F64) if intercept else inputs.new_empty(0, inputs.shape[1])
    design = torch.cat([inputs, ones])
    solved = torch.linalg.lstsq(design.mT, targets.mT).solution.mT
    constant = solved[:, -1] if intercept else targets.new_zeros(len(targets))
    return solved[:, : len(inputs)], constant


def unexplained(found: Solution, weight: Tensor, inputs: Tensor, columns: Tensor) -> float:
    """Squared error of the solution on kept `columns` of the inputs it was made for."""
    fitted = found.weight @ inputs[:, columns]
    fitted = fitted if found.shift is None else fitted + found.shift.unsqueeze(-1)
    return float((weight @ inputs - fitted).square().sum())


sizes = st.tuples(st.integers(0, 99), st.integers(1, 3), st.integers(1, 4), st.integers(2, 6))


@settings(max_examples=30, deadline=None)
@given(size=sizes, intercept=st.booleans(), data=st.data())
def test_restore_and_refit_are_least_squares(
    size: tuple[int, ...], intercept: bool, data: st.DataObject
) -> None:
    seed, groups, out, n = size
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(groups, n, n, generator=generator, dtype=F64)
    inputs = mix @ torch.randn(groups, n, 80, generator=generator, dtype=F64) + 1
    weight = torch.randn(groups, out, n, generator=generator, dtype=F64)
    kept = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    columns = torch.tensor(kept)
    targets = weight @ inputs
    solution = restore(weight, Moments.of(inputs), columns, intercept, 1e-13)
    fitted = refit(weight[:, :, columns], Moments.of(inputs[:, columns], targets), intercept, 1e-13)
    for g in range(groups):
        direct, constant = lstsq(inputs[g, columns], targets[g], intercept)
        for found in (solution, fitted):
            torch.testing.assert_close(found.weight[g], direct, rtol=1e-5, atol=1e-6)
            assert (found.shift is not None) == intercept
            if found.shift is not None:
                torch.testing.assert_close(found.shift[g], constant, rtol=1e-5, atol=1e-6)


def test_damping_pulls_towards_the_weight_that_was_there() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1, 5, 40, generator=generator, dtype=F64)
    weight = torch.randn(1, 3, 5, generator=generator, dtype=F64)
    moments, columns = Moments.of(inputs), torch.tensor([0, 2, 3])
    distances, errors = [], []
    for damping in (0.0, 1e-2, 1.0, 1e2, 1e9):
        found = restore(weight, moments, columns, True, damping)
        distances.append(float((found.weight - weight[:, :, columns]).norm()))
        errors.append(unexplained(found, weight, inputs, columns))
        mean_power = float(moments.covariance(True)[0].diagonal()[columns].mean())
        assert found.damping == pytest.approx(damping * mean_power)
    assert distances == sorted(distances, reverse=True) and distances[-1] < 1e-6
    assert errors == sorted(errors)
    everything = restore(weight, moments, torch.arange(5), True, 10.0)
    torch.testing.assert_close(everything.weight, weight)


def test_a_singular_system_is_a_value_and_no_exception() -> None:
    inputs = torch.zeros(1, 4, 10, dtype=F64)
    inputs[:, :2] = torch.randn(10, generator=torch.Generator().manual_seed(0), dtype=F64)
    weight = torch.ones(1, 2, 4, dtype=F64)
    for damping in (0.0, 1e-9):
        columns = torch.tensor([1, 2, 3])
        found = restore(weight, Moments.of(inputs), columns, False, damping)
        error = unexplained(found, weight, inputs, columns) / float((weight @ inputs).square().sum())
        assert bool(found.weight.isfinite().all()) and error < 1e-6
    nothing = restore(weight, Moments.of(inputs * 0), torch.tensor([1]), True, 1e-3)
    assert bool(nothing.weight.isfinite().all()) and nothing.shift is not None and not nothing.shift.any()


class Record(FlowHandler):
    """Inputs and outputs (residual sums, where a layer enters one) of every layer, as columns."""

    def __init__(self, network: nn.Module, bench: Bench) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.own: dict[str, Tensor] = {}
        self.aims: dict[str, Tensor] = {}
        with torch.no_grad(), FlowTap(network, [x for x in bench.graph.layers], self):
            bench.chunks[0].call(network)

    def on_layer(self, call: LayerCall) -> Tensor:
        output = call.run()
        self.inputs[call.layer.name] = input_columns(call, Grid())
        self.own[call.layer.name] = self.aims[call.layer.name] = output_columns(call, output, Grid()).clone()
        return output

    def on_sum(self, branch: Branch, other: Tensor, total: Callable[[], Tensor]) -> None:
        self.aims[branch.call.layer.name] = output_columns(branch.call, total(), Grid()).clone()


def centre(columns: Tensor) -> Tensor:
    return columns - columns.mean(-1, keepdim=True)


@pytest.mark.parametrize("network", NETWORKS)
def test_independent_is_least_squares_on_the_dense_inputs(network: str) -> None:
    small = NETWORKS[network]
    bench = make_bench(small.model(dtype=F64), small.images(64, dtype=F64), damping=1e-13)
    kept = random_kept(bench.graph, 0.7)
    pruned = Slicer(bench.model, bench.graph).build(kept).eval()
    Independent().restore(bench, pruned, kept)
    dense = Record(bench.model, bench)
    assert affected(bench, kept)
    for layer in affected(bench, kept):
        inputs = dense.inputs[layer.name][:, bench.columns(layer, kept)]
        outputs = dense.own[layer.name].unflatten(0, (layer.groups, -1))
        direct = [lstsq(x, y, centred(layer)) for x, y in zip(inputs, outputs, strict=True)]
        rows = bench.rows(layer, kept)
        found = pruned.get_parameter(layer.weight).reshape(len(rows), -1)
        torch.testing.assert_close(found, torch.cat([d[0] for d in direct])[rows], rtol=1e-4, atol=1e-5)
        constant = torch.cat([d[1] for d in direct])[rows]
        if layer.bias is not None:
            torch.testing.assert_close(pruned.get_parameter(layer.bias).data, constant, rtol=1e-4, atol=1e-5)
        elif layer.norm is not None:
            moved = bench.model.get_buffer(f"{layer.norm}.running_mean")[rows] - constant
            mean = pruned.get_buffer(f"{layer.norm}.running_mean")
            torch.testing.assert_close(mean, moved, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_sequential_is_optimal_on_the_pruned_networks_own_inputs(network: str, chunks: int) -> None:
    small = NETWORKS[network]
    images = small.images(66, dtype=F64)
    bench = make_bench(small.model(dtype=F64), images, damping=1e-12, chunks=chunks)
    kept = random_kept(bench.graph, 0.6)
    pruned = Slicer(bench.model, bench.graph).build(kept).eval()
    Sequential(target="before").restore(bench, pruned, kept)
    whole = make_bench(bench.model, images)
    dense, found = Record(bench.model, whole), Record(pruned, whole)
    assert disturbed(bench, kept)
    for layer in disturbed(bench, kept):
        rows = bench.rows(layer, kept)
        left = dense.aims[layer.name][rows] - found.aims[layer.name]
        inputs = found.inputs[layer.name]
        if centred(layer):
            inputs = centre(inputs)
        product = left.unflatten(0, (len(inputs), -1)) @ inputs.mT
        scale = dense.aims[layer.name][rows].norm() * inputs.norm()
        assert float(product.norm() / scale) < 1e-6, (
            f"{layer.name}: the residue is not orthogonal to the input"
        )
        if layer.name in bench.targets.residual or layer.bias is not None:
            assert float(left.mean(1).norm()) < 1e-6
        elif layer.norm is not None:
            mean = pruned.get_buffer(f"{layer.norm}.running_mean")
            moved = mean - bench.model.get_buffer(f"{layer.norm}.running_mean")[rows]
            torch.testing.assert_close(moved, -left.mean(1), rtol=1e-4, atol=1e-6)


def test_layers_that_end_in_a_sum_aim_at_the_sum() -> None:
    small = NETWORKS["residual"]
    bench = make_bench(small.model(), small.images(8))
    assert bench.targets.residual == {"a2.0", "b2.0"}
    for name in ("chain", "concat", "grouped"):
        plain = NETWORKS[name]
        assert not make_bench(plain.model(), plain.images(8)).targets.residual


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("reach", [0, 1])
def test_within_reach_are_so_many_layers_behind_each_that_loses_columns(network: str, reach: int) -> None:
    small = NETWORKS[network]
    bench = make_bench(small.model(), small.images(8))
    for group in bench.graph.groups:
        kept = {group.name: torch.arange(group.width - 1)}
        everything, near = disturbed(bench, kept), disturbed(bench, kept, reach)
        losing = [layer for layer in everything if bench.loses_columns(layer, kept)]
        starts = [everything.index(layer) for layer in losing]
        behind = [everything[start : start + reach + 1] for start in starts]
        assert near == [layer for layer in everything if any(layer in part for part in behind)]
        assert disturbed(bench, kept, len(everything)) == everything or len(losing) == 0


def test_layers_out_of_reach_keep_their_weights() -> None:
    small = NETWORKS["chain"]
    bench = make_bench(small.model(), small.images(16))
    first = bench.graph.groups[0]
    kept = {first.name: torch.arange(first.width - 1)}
    near, everything = disturbed(bench, kept, 0), disturbed(bench, kept)
    assert len(near) == 1 < len(everything)
    pruned = Slicer(bench.model, bench.graph).build(kept).eval()
    Sequential(reach=0).restore(bench, pruned, kept)
    for layer in everything[1:]:
        assert pruned.get_parameter(layer.weight).equal(bench.model.get_parameter(layer.weight))


def test_layers_before_the_first_pruned_one_stay() -> None:
    small = NETWORKS["chain"]
    bench = make_bench(small.model(), small.images(16))
    last = bench.graph.groups[-1]
    kept = {last.name: torch.arange(last.width - 1)}
    assert [layer.name for layer in disturbed(bench, kept)] == [bench.graph.layers[-1].name]
    pruned = Slicer(bench.model, bench.graph).build(kept).eval()
    Sequential().restore(bench, pruned, kept)
    for name, tensor in bench.model.state_dict().items():
        if name.startswith(("0.", "2.")):
            assert tensor.equal(pruned.state_dict()[name])


class InPlaceShortcut(nn.Module):
    """Changes what its shortcut has read before the shortcut is added."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.stem, self.down = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(10, 12, 1)
        self.a, self.b = nn.Conv2d(10, 9, 3, padding=1), nn.Conv2d(9, 12, 3, padding=1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        shortcut = self.down(x)
        x = F.relu_(x) if self.in_place else F.relu(x)
        x = F.relu(self.b(F.relu(self.a(x))) + shortcut)
        return self.head(x.mean((2, 3)))


@torch.no_grad()
def test_a_shortcut_whose_input_is_changed_before_the_sum_is_fitted_on_what_it_read() -> None:
    torch.manual_seed(0)
    plain = InPlaceShortcut(in_place=False).eval()
    changed = InPlaceShortcut(in_place=True).eval()
    changed.load_state_dict(plain.state_dict())
    images, unseen = torch.randn(96, 3, 8, 8), torch.randn(64, 3, 8, 8)
    errors = []
    for model in (plain, changed):
        bench = make_bench(model, images, chunks=2)
        kept = random_kept(bench.graph, 0.6)
        pruned = Slicer(model, bench.graph).build(kept).eval()
        Sequential().restore(bench, pruned, kept)
        errors.append(relative_error(pruned, model, unseen))
    assert errors[1] < 1.3 * errors[0]


@pytest.mark.parametrize("centred", [True, False])
def test_groups_of_a_convolution_do_not_see_each_other_s_scale(centred: bool) -> None:
    weight, inputs = torch.randn(2, 3, 6, dtype=F64), torch.randn(2, 6, 200, dtype=F64)
    columns, scale = torch.arange(4), torch.tensor([1.0, 1e-3], dtype=F64).view(2, 1, 1)
    plain = restore(weight, Moments.of(inputs), columns, centred, 1e-2)
    scaled = restore(weight, Moments.of(inputs * scale), columns, centred, 1e-2)
    torch.testing.assert_close(scaled.weight, plain.weight, rtol=1e-9, atol=1e-12)
