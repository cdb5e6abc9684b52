"""The closed forms against refitting by direct least squares."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoprune.criteria import Reader, elimination, greedy_order, loss_curve


def problem(seed: int, groups: int, out: int, width: int, b: int, samples: int = 60) -> tuple[Tensor, Tensor]:
    """Weights (groups, out, width * b) and correlated inputs (groups, width * b, samples)."""
    generator = torch.Generator().manual_seed(seed)
    n = width * b
    mix = torch.randn(groups, n, n, generator=generator, dtype=torch.float64)
    inputs = mix @ torch.randn(groups, n, samples, generator=generator, dtype=torch.float64)
    return torch.randn(groups, out, n, generator=generator, dtype=torch.float64), inputs


def reader(weight: Tensor, inputs: Tensor) -> Reader:
    second = inputs @ inputs.mT
    return Reader(weight, torch.linalg.inv(second), float(((weight @ second) * weight).sum()))


def refit_loss(weight: Tensor, inputs: Tensor, kept: list[int], b: int) -> float:
    """Relative error of the best weights on the kept channels, by least squares on the data."""
    columns = [c * b + i for c in kept for i in range(b)]
    target = weight @ inputs
    if not columns:
        return 1.0
    chosen = inputs[:, columns]
    solved = torch.linalg.lstsq(chosen.mT, target.mT).solution.mT
    return float((solved @ chosen - target).square().sum() / target.square().sum())


def brute_force(problems: list[tuple[Tensor, Tensor, int]], width: int, batch: int) -> list[int]:
    alive, order = list(range(width)), []
    while alive:
        scores = [
            sum(refit_loss(w, x, [k for k in alive if k != c], b) for w, x, b in problems) for c in alive
        ]
        chosen = [alive[i] for i in torch.tensor(scores).argsort(stable=True)[:batch]]
        order += chosen
        alive = [c for c in alive if c not in chosen]
    return order


def plain_greedy(problems: list[tuple[Tensor, Tensor, int]], width: int, batch: int) -> list[int]:
    """Backward elimination that inverts the second moment of what is left at every decision."""
    alive, order = list(range(width)), []
    while alive:
        scores = torch.zeros(len(alive), dtype=torch.float64)
        for weight, inputs, b in problems:
            chosen = [c * b + i for c in alive for i in range(b)]
            second = inputs @ inputs.mT
            inverse = torch.linalg.inv(second[:, chosen][:, :, chosen])
            # The best weights on what is left, for the outputs of all columns.
            best = weight @ second[:, :, chosen] @ inverse
            power = ((weight @ second) * weight).sum()
            for position in range(len(alive)):
                columns = slice(position * b, (position + 1) * b)
                block = torch.linalg.inv(inverse[:, columns, columns])
                scores[position] += ((best[:, :, columns] @ block) * best[:, :, columns]).sum() / power
        gone = [alive[i] for i in scores.argsort(stable=True)[:batch]]
        order += gone
        alive = [c for c in alive if c not in gone]
    return order


shapes = st.tuples(
    st.integers(0, 99), st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 4)
)


@settings(max_examples=30, deadline=None)
@given(shape=shapes, seed=st.integers(0, 99))
def test_the_curve_is_that_of_refitting_at_every_width(shape: tuple[int, ...], seed: int) -> None:
    weight, inputs = problem(*shape)  # type: ignore[misc]
    width, b = shape[3:]
    order = torch.randperm(width, generator=torch.Generator().manual_seed(seed))
    curve = loss_curve([reader(weight, inputs)], order)
    direct = [refit_loss(weight, inputs, order[width - kept :].tolist(), b) for kept in range(width + 1)]
    torch.testing.assert_close(curve, torch.tensor(direct, dtype=torch.float64), rtol=1e-6, atol=1e-9)
    assert bool((curve.diff() <= 1e-12).all()), "the error never falls when a channel is taken away"
    assert curve[-1] == 0


@settings(max_examples=25, deadline=None)
@given(shape=shapes, batch=st.integers(1, 4))
def test_greedy_is_brute_force_greedy(shape: tuple[int, ...], batch: int) -> None:
    weight, inputs = problem(*shape)  # type: ignore[misc]
    width, b = shape[3:]
    found = greedy_order([reader(weight, inputs)], width, batch)
    assert found.tolist() == brute_force([(weight, inputs, b)], width, batch)


@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("blocks", [(1,), (9,), (1, 4), (4, 1)])
def test_wide_groups_are_eliminated_like_narrow_ones(
    blocks: tuple[int, ...], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inverse is brought up to date several times, after panels and after halves."""
    monkeypatch.setattr(elimination, "PANEL", 4 * max(blocks))
    width = 20
    problems = [(*problem(b, 2, 3, width, b, samples=3 * width * b), b) for b in blocks]
    readers = [reader(weight, inputs) for weight, inputs, _ in problems]
    untouched = [(one.weight.clone(), one.inverse.clone()) for one in readers]
    assert greedy_order(readers, width, batch).tolist() == plain_greedy(problems, width, batch)
    for one, (weight, inverse) in zip(readers, untouched, strict=True):
        assert one.weight.equal(weight) and one.inverse.equal(inverse), "readers serve all batch sizes"


@pytest.mark.parametrize("batch", [1, 2, 3, 10])
def test_several_readers_count_by_their_own_power(batch: int) -> None:
    first, second = problem(1, 1, 3, 6, 1), problem(2, 2, 4, 6, 4)
    readers = [reader(*first), reader(second[0] * 1000, second[1])]
    order = greedy_order(readers, 6, batch)
    assert order.tolist() == brute_force([(*first, 1), (*second, 4)], 6, batch)
    separate = [loss_curve([one], order) for one in readers]
    torch.testing.assert_close(loss_curve(readers, order), separate[0] + separate[1])


def test_a_batch_is_chosen_by_one_scoring() -> None:
    weight, inputs = problem(3, 1, 3, 7, 2)
    first = reader(weight, inputs)
    scores = [refit_loss(weight, inputs, [k for k in range(7) if k != c], 2) for c in range(7)]
    order = greedy_order([first], 7, 7)
    assert order.tolist() == torch.tensor(scores).argsort().tolist()
    assert greedy_order([first], 7, 3)[:3].tolist() == order[:3].tolist()
    assert greedy_order([first], 7, 1)[0] == order[0]


def test_greedy_is_never_far_from_the_best_subset() -> None:
    weight, inputs = problem(4, 1, 3, 6, 1)
    curve = loss_curve([reader(weight, inputs)], greedy_order([reader(weight, inputs)], 6, 1))
    for kept in range(7):
        subsets = itertools.combinations(range(6), kept)
        best = min(refit_loss(weight, inputs, list(subset), 1) for subset in subsets)
        assert best - 1e-9 <= curve[kept] <= 2 * best + 1e-9


@pytest.mark.parametrize(("groups", "b"), [(1, 1), (1, 4), (3, 2)])
def test_a_duplicated_channel_goes_first_and_at_no_cost(groups: int, b: int) -> None:
    weight, inputs = problem(5, groups, 4, 6, b, samples=200)
    blocks = inputs.unflatten(1, (6, b))
    blocks[:, 4] = blocks[:, 1]
    second = inputs @ inputs.mT
    second += 1e-9 * second.diagonal(dim1=1, dim2=2).mean() * torch.eye(6 * b, dtype=torch.float64)
    power = float(((weight @ second) * weight).sum())
    found = Reader(weight, torch.linalg.inv(second), power)
    order = greedy_order([found], 6, 1)
    assert int(order[0]) in (1, 4)
    assert 0 <= float(loss_curve([found], order)[5]) < 1e-6


@pytest.mark.parametrize("batch", [1, 3])
def test_the_scale_of_channels_changes_nothing(batch: int) -> None:
    weight, inputs = problem(6, 2, 3, 7, 2)
    scale = torch.logspace(-3, 3, 7, dtype=torch.float64).repeat_interleave(2)
    scaled = reader(weight / scale, inputs * scale[:, None])
    plain = reader(weight, inputs)
    order = greedy_order([plain], 7, batch)
    assert greedy_order([scaled], 7, batch).equal(order)
    torch.testing.assert_close(loss_curve([scaled], order), loss_curve([plain], order), rtol=1e-4, atol=1e-8)


def test_a_reader_without_power_has_no_say() -> None:
    weight, inputs = problem(7, 1, 3, 5, 1)
    silent = Reader(torch.zeros_like(weight), torch.eye(5, dtype=torch.float64)[None], 0.0)
    plain = reader(weight, inputs)
    order = greedy_order([plain, silent], 5, 1)
    assert order.equal(greedy_order([plain], 5, 1))
    torch.testing.assert_close(loss_curve([plain, silent], order), loss_curve([plain], order))
