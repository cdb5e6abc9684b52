"""The eliminations on Gram matrices against refitting by direct least squares, and scikit-learn's OMP."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp_gram
from torch import Tensor

from autoprune.criteria import LRF, OMP, FPBackward
from autoprune.criteria.filter_gram import gram, inverse_without, replacements, residual_curve, smallest
from autoprune.criteria.fp_backward import removal_costs
from autoprune.criteria.lrf import scores
from autoprune.criteria.omp import selection
from tests.criteria.views import scaled, view

BATCHES = pytest.mark.parametrize("batch", [1, 3])


def filters_of(width: int = 8, n: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(width, n, generator=generator, dtype=torch.float64)
        * torch.linspace(0.5, 2, width)[:, None]
    )


def refitted(filters: Tensor, kept: list[int]) -> tuple[Tensor, Tensor]:
    """Coefficients (all, kept) of all filters on the kept ones by least squares, and the residuals."""
    if not kept:
        return filters.new_zeros(len(filters), 0), filters
    solution = torch.linalg.lstsq(filters[kept].mT, filters.mT).solution.mT
    return solution, filters - solution @ filters[kept]


def brute_force_pursuit(filters: Tensor) -> list[int]:
    selected: list[int] = []
    while len(selected) < len(filters):
        _, residual = refitted(filters, selected)
        gains = (residual @ filters.mT).abs().sum(0) / filters.norm(dim=1)
        gains[selected] = -1
        selected.append(int(gains.argmax()))
    return selected


def brute_force_backward(filters: Tensor, batch: int) -> list[int]:
    alive, order = list(range(len(filters))), []
    while alive:
        costs = [float(refitted(filters, [k for k in alive if k != c])[1].square().sum()) for c in alive]
        gone = [alive[i] for i in np.argsort(costs, kind="stable")[:batch]]
        order += gone
        alive = [k for k in alive if k not in gone]
    return order


def brute_force_lrf(filters: Tensor, kernels: Tensor, batch: int) -> list[int]:
    alive, order, kernels = list(range(len(filters))), [], kernels.clone()
    while alive:
        residuals = [refitted(filters, [k for k in alive if k != c])[1][c].norm() for c in alive]
        costs = [float(r * kernels[c].norm()) for r, c in zip(residuals, alive, strict=True)]
        gone = [alive[i] for i in np.argsort(costs, kind="stable")[:batch]]
        alive = [k for k in alive if k not in gone]
        coefficients, _ = refitted(filters, alive)
        for c in gone:
            kernels[alive] += coefficients[c][:, None] * kernels[c]
        order += gone
    return order


@pytest.mark.parametrize("seed", range(5))
def test_pursuit_selects_what_refitting_all_targets_selects(seed: int) -> None:
    filters = filters_of(seed=seed)
    assert selection(gram(filters), 1e-10).tolist() == brute_force_pursuit(filters)
    assert OMP().order(view(filters=filters), 1).tolist() == brute_force_pursuit(filters)[::-1]


@pytest.mark.parametrize("seed", range(5))
def test_pursuit_of_one_target_is_that_of_scikit_learn(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(9, 12, generator=generator, dtype=torch.float64)
    # scikit-learn takes atoms of unit norm for granted.
    atoms, target = torch.nn.functional.normalize(rows[:8], dim=1), rows[8]
    found = selection(gram(torch.cat([atoms, target[None]])), 1e-10, aims=1)
    for count in range(1, 9):
        sparse = orthogonal_mp_gram(gram(atoms).numpy(), (atoms @ target).numpy(), n_nonzero_coefs=count)
        assert set(np.flatnonzero(sparse)) == set(found[:count].tolist())


@pytest.mark.parametrize("seed", range(3))
def test_the_curve_is_the_residual_that_scikit_learn_leaves(seed: int) -> None:
    filters = filters_of(seed=seed)
    order = OMP().order(view(filters=filters), 1)
    curve = residual_curve(gram(filters), order)
    for kept in range(1, 8):
        gone, chosen = filters[order[:-kept]], order[-kept:]
        atoms = torch.nn.functional.normalize(filters[chosen], dim=1)
        sparse = orthogonal_mp_gram(gram(atoms).numpy(), (atoms @ gone.mT).numpy(), n_nonzero_coefs=kept)
        left = gone - torch.as_tensor(sparse).reshape(kept, -1).mT @ atoms
        assert curve[kept] == pytest.approx(float(left.square().sum() / filters.square().sum()), rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_curve_of_any_order_is_that_of_refitting(weighted: bool) -> None:
    filters = filters_of(seed=3)
    weights = torch.linspace(3, 1, 8, dtype=torch.float64) if weighted else torch.ones(8, dtype=torch.float64)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    curve = residual_curve(gram(filters), order, weights if weighted else None)
    power = (weights * filters.square().sum(1)).sum()
    for kept in range(9):
        _, residual = refitted(filters, order[8 - kept :].tolist())
        wanted = float((weights * residual.square().sum(1)).sum() / power)
        assert curve[kept] == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_more_filters_than_weights_cost_nothing_until_the_rank_is_reached() -> None:
    filters = filters_of(width=12, n=5)
    for chooser in (OMP(), FPBackward(), LRF()):
        seen = view(width=12, filters=filters)
        curve = chooser.loss(seen, chooser.order(seen, 1))
        assert curve is not None and float(curve[5]) < 1e-9 < 1e-4 < float(curve[4]), type(chooser).__name__


@BATCHES
@pytest.mark.parametrize("seed", range(5))
def test_backward_elimination_removes_what_refitting_says(seed: int, batch: int) -> None:
    filters = filters_of(seed=seed)
    wanted = brute_force_backward(filters, batch)
    assert FPBackward(damping=1e-12).order(view(filters=filters), batch).tolist() == wanted
    assert FPBackward().order(view(filters=filters), batch).tolist() == wanted


def test_removal_costs_are_the_growth_of_the_residual() -> None:
    filters = filters_of(seed=6)
    alive = [0, 2, 3, 5, 7]
    inverted = torch.linalg.inv(gram(filters[alive]))
    costs = removal_costs(inverted, inverted @ filters[alive] @ filters.mT)
    before = refitted(filters, alive)[1].square().sum()
    for index, k in enumerate(alive):
        after = refitted(filters, [c for c in alive if c != k])[1].square().sum()
        torch.testing.assert_close(costs[index], after - before)


@BATCHES
@pytest.mark.parametrize("seed", range(5))
def test_lrf_removes_what_refitting_says(seed: int, batch: int) -> None:
    filters = filters_of(seed=seed)
    kernels = torch.randn(8, 20, generator=torch.Generator().manual_seed(seed + 50), dtype=torch.float64)
    parts = [kernels[:, :12], kernels[:, 12:]]
    seen = view(filters=filters, consumers=lambda: parts)
    assert LRF(damping=1e-12).order(seen, batch).tolist() == brute_force_lrf(filters, kernels, batch)


def test_lrf_scores_and_coefficients_are_those_of_least_squares() -> None:
    filters = filters_of(seed=8)
    inverted = torch.linalg.inv(gram(filters))
    kernels = torch.diag(torch.linspace(1, 3, 8, dtype=torch.float64).square())
    found = scores(inverted, kernels)
    for i in range(8):
        others = [c for c in range(8) if c != i]
        coefficients, residual = refitted(filters, others)
        torch.testing.assert_close(found[i], residual[i].norm() * kernels[i, i].sqrt())
        replaced = replacements(inverted, torch.tensor([i]), torch.tensor(others))
        torch.testing.assert_close(replaced.squeeze(1), coefficients[i])
        torch.testing.assert_close(replaced.squeeze(1), -inverted[others, i] / inverted[i, i])


def test_filters_that_go_together_are_replaced_by_those_that_stay() -> None:
    filters = filters_of(seed=9)
    gone, stays = torch.tensor([1, 6, 4]), torch.tensor([0, 2, 3, 5, 7])
    inverted = torch.linalg.inv(gram(filters))
    replaced = replacements(inverted, gone, stays)
    torch.testing.assert_close(replaced.mT, refitted(filters, stays.tolist())[0][gone])
    without = inverse_without(inverted, gone, stays, replaced)
    torch.testing.assert_close(without, torch.linalg.inv(gram(filters[stays])))


@BATCHES
def test_lrf_ignores_a_scale_of_single_filters_that_the_next_kernels_take_back(batch: int) -> None:
    factors = torch.logspace(-0.5, 0.5, 9)
    for seed in range(3):
        plain = view(seed=seed)
        order = LRF(damping=1e-12).order(plain, batch)
        assert LRF(damping=1e-12).order(scaled(plain, factors, 1 / factors), batch).equal(order)


def test_equal_scores_go_by_their_index_however_they_were_rounded() -> None:
    found = torch.tensor([3.0, 1.0 + 1e-13, 2.0, 1.0], dtype=torch.float64)
    assert smallest(found, 2).tolist() == [1, 3]
    assert smallest(torch.zeros(3), 2).tolist() == [0, 1]
    assert smallest(torch.zeros(0), 2).tolist() == []
