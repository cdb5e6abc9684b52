"""Behind a clamp only what passes it counts."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from autoprune.calibration.flow import Clamp
from autoprune.calibration.moments import Moments
from autoprune.graph import Slicer
from autoprune.linear_algebra import Factored
from autoprune.reconstruction import Sequential
from autoprune.reconstruction.least_squares import solution_of
from autoprune.reconstruction.rectified import Behind, Sample, missed_, rectified
from tests.small import NETWORKS, make_bench, random_kept, relative_error

F64 = torch.float64
RELU, RELU6 = Clamp(), Clamp(0.0, 1.5)


def problem(groups: int = 2, out: int = 3, n: int = 4, columns: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, dense values that no linear map gives, and what is added on the way."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(groups, n, columns, generator=generator, dtype=F64)
    hidden = torch.randn(groups, out, n, generator=generator, dtype=F64) @ inputs
    dense = hidden + 0.7 * torch.randn(hidden.shape, generator=generator, dtype=F64)
    return inputs, dense, 0.3 * torch.randn(hidden.shape, generator=generator, dtype=F64)


def fitted(clamp: Clamp, rounds: int, centred: bool = True, parts: int = 1) -> tuple[float, float, Tensor]:
    """The loss that counts, the squared error behind the clamp, and the gradient's share that is left."""
    inputs, dense, other = problem()
    scale = torch.tensor([0.5, -2.0, 1.0, -0.3, 1.5, 0.8], dtype=F64).reshape(2, 3, 1)
    shift = torch.linspace(-0.2, 0.2, 6, dtype=F64).reshape(2, 3, 1)
    moments = Moments.of(inputs, (dense - other - shift) / scale)
    system = Factored.of(moments.covariance(centred), 1e-9)
    prior = torch.zeros(2, 3, 4, dtype=F64)
    start = solution_of(prior, moments, system, centred)
    pieces = zip(*(x.chunk(parts, -1) for x in (inputs, dense, other)), strict=True)
    samples = [Sample.of(x, wanted, beside, clamp) for x, wanted, beside in pieces]
    found = rectified(start, prior, moments, system, samples, Behind(clamp, scale, shift), rounds)
    constant = 0 if found.shift is None else found.shift.unsqueeze(-1)
    value = scale * (found.weight @ inputs + constant) + shift + other
    left = missed_(dense.clamp(clamp.low, clamp.high), clamp, value.clone())
    behind = dense.clamp(clamp.low, clamp.high) - value.clamp(clamp.low, clamp.high)
    gradient = (left @ inputs.mT).norm() / (left.norm() * inputs.norm())
    return float(left.square().sum()), float(behind.square().sum()), gradient


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("clamp", [RELU, RELU6])
def test_every_round_lowers_the_loss_down_to_its_least(clamp: Clamp, centred: bool) -> None:
    losses = [fitted(clamp, rounds, centred)[0] for rounds in (0, 1, 2, 4, 16, 300)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.99 * losses[0]
    loss, behind, gradient = fitted(clamp, 300, centred)
    assert float(gradient) < 1e-6, "at the least, the residue is orthogonal to the inputs"
    assert behind <= loss + 1e-9, "the loss lies above the squared error behind the clamp"


def test_without_a_bound_it_is_plain_least_squares() -> None:
    nothing = Clamp(-math.inf, math.inf)
    assert fitted(nothing, 0)[0] == pytest.approx(fitted(nothing, 1)[0])


def test_samples_in_parts_are_one() -> None:
    assert fitted(RELU, 3, parts=1)[0] == pytest.approx(fitted(RELU, 3, parts=7)[0])


def test_what_the_clamp_hides_is_no_error() -> None:
    dense = torch.tensor([-3.0, -3.0, 2.0, 9.0, 9.0, 1.0])
    value = torch.tensor([-1.0, 0.5, -1.0, 7.0, 5.0, 8.0])
    found = missed_(dense.clamp(0.0, 6.0), Clamp(0.0, 6.0), value)
    torch.testing.assert_close(found, torch.tensor([0.0, -0.5, 3.0, 0.0, 1.0, -7.0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, F64])
def test_a_bound_that_no_number_of_this_precision_hits_hides_all_the_same(dtype: torch.dtype) -> None:
    clamp = Clamp(0.1, 0.7)
    aim = torch.tensor([-1.0, 0.3, 2.0], dtype=dtype).clamp(clamp.low, clamp.high)
    fitted = torch.tensor([-5.0, 0.3, 9.0], dtype=torch.promote_types(dtype, torch.float32))
    assert missed_(aim, clamp, fitted).abs().max() < 1e-3


@pytest.mark.parametrize("network", ["chain", "residual"])
def test_networks_with_clamps_come_nearer_on_unseen_images(network: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(dtype=F64), small.images(96, dtype=F64)
    bench, unseen = make_bench(model, images, chunks=3), small.images(64, seed=9, dtype=F64)
    errors = {"before": 0.0, "after": 0.0}
    for seed in range(4):
        kept = random_kept(bench.graph, 0.5, seed)
        for target in errors:
            pruned = Slicer(bench.model, bench.graph).build(kept).eval()
            Sequential(target=target).restore(bench, pruned, kept)  # type: ignore[arg-type]
            errors[target] += relative_error(pruned, model, unseen)
    assert errors["after"] < errors["before"]


def test_cuts_are_the_layers_that_a_clamp_alone_reads() -> None:
    found = {name: make_bench(NETWORKS[name].model(), NETWORKS[name].images(8)).targets for name in NETWORKS}
    # "down" enters a sum and has no clamp of its own; the head has none.
    assert set(found["residual"].cuts) == {"stem.0", "a1.0", "a2.0", "b1.0", "b2.0"}
    assert found["separable"].cuts["0.0"].clamp == Clamp(0.0, 6.0)
    assert found["separable"].cuts["0.0"].affine is not None
    assert set(found["tokens"].cuts) == set(), "GELU is no clamp"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_sums_of_a_half_precision_network_do_not_overflow(dtype: torch.dtype) -> None:
    small = NETWORKS["chain"]
    model, images = small.model(), small.images(256) * 40
    errors = []
    for precision in (torch.float32, dtype):
        mine, seen = copy.deepcopy(model).to(precision), images.to(precision)
        bench = make_bench(mine, seen)
        kept = random_kept(bench.graph, 0.6)
        sliced = Slicer(mine, bench.graph).build(kept)
        Sequential(rounds=3).restore(bench, sliced, kept)
        errors.append(relative_error(sliced, mine, seen))
    assert errors[1] == pytest.approx(errors[0], rel=0.1)
