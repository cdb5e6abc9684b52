from __future__ import annotations

import numpy as np
import pytest

from autoprune.searching.surrogate import BATCH_SD, FACTOR_SD, NOISE_SD, Observation, Surrogate

GROUPS, WIDTH = 6, 10


def curves(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.append(np.sort(rng.exponential(size=WIDTH))[::-1], 0.0) * 0.1 for _ in range(GROUPS)]


def observed(factors: np.ndarray, count: int, effect: float = 0.0) -> list[Observation]:
    rng = np.random.default_rng(1)
    seen = []
    for number in range(count):
        counts = rng.integers(1, WIDTH, GROUPS)
        batch = (1, 2)[number % 2]
        losses = np.array([curve[c] for curve, c in zip(curves(), counts, strict=True)])
        # To first order in the factors, which is what the model claims.
        shift = float((losses / losses.sum()) @ factors)
        seen.append(Observation(counts, batch, losses.sum() * np.exp(shift + effect * (batch == 2))))
    return seen


def test_planted_factors_are_recovered() -> None:
    factors = np.array([0.5, -0.5, 0.3, 0.0, -0.2, -0.1])
    surrogate = Surrogate({1: curves(), 2: curves()}, observed(factors, 150))
    found = surrogate.mean[3 : 3 + GROUPS]
    # The trend takes up what all factors share.
    np.testing.assert_allclose(found - found.mean(), factors - factors.mean(), atol=0.12)


def test_the_better_batch_removal_size_is_learnt() -> None:
    better = Surrogate({1: curves(), 2: curves()}, observed(np.zeros(GROUPS), 100, effect=-0.3))
    worse = Surrogate({1: curves(), 2: curves()}, observed(np.zeros(GROUPS), 100, effect=0.3))
    rng = np.random.default_rng(0)
    assert [better.draw(rng).batch for _ in range(5)] == [2] * 5
    assert [worse.draw(rng).batch for _ in range(5)] == [1] * 5


def test_more_observations_leave_less_doubt() -> None:
    doubts = [
        np.trace(Surrogate({1: curves(), 2: curves()}, observed(np.zeros(GROUPS), n)).covariance)
        for n in (0, 5, 50)
    ]
    assert doubts == sorted(doubts, reverse=True)


@pytest.mark.parametrize("count", [0, 1, 20])
def test_a_draw_follows_from_its_generator(count: int) -> None:
    surrogate = Surrogate({1: curves(), 2: curves()}, observed(np.zeros(GROUPS), count))
    first, second, other = (surrogate.draw(np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.log_factors, second.log_factors)
    assert first.batch == second.batch and first.log_factors.shape == (GROUPS,)
    assert not np.array_equal(first.log_factors, other.log_factors)
    np.testing.assert_allclose(
        surrogate.draw(np.random.default_rng(3), spread=0.0).log_factors, surrogate.mean[3 : 3 + GROUPS]
    )


def test_what_is_learnt_bit_by_bit_in_any_order_is_what_is_learnt_at_once() -> None:
    seen = observed(np.linspace(-0.5, 0.5, GROUPS), 60, effect=0.1)
    seen += [Observation(o.counts, o.batch, 0.8 * o.output_error, on_few=True) for o in seen[::2]]
    at_once = Surrogate({1: curves(), 2: curves()}, seen)
    for seed in range(3):
        growing = Surrogate({1: curves(), 2: curves()})
        for place in np.random.default_rng(seed).permutation(len(seen)):
            growing.learn([seen[place]])
            _ = growing.mean
        np.testing.assert_array_equal(growing.mean, at_once.mean)
        np.testing.assert_array_equal(growing.covariance, at_once.covariance)


def test_the_posterior_is_that_of_the_textbook() -> None:
    seen = observed(np.linspace(-0.5, 0.5, GROUPS), 60)
    found = Surrogate({1: curves(), 2: curves()}, seen)
    x = np.array([found._features(o) for o in seen])
    y = np.log([o.output_error for o in seen])
    sd = [10.0] * 3 + [FACTOR_SD] * GROUPS + [BATCH_SD] * 2 + [10.0] * 2
    covariance = np.linalg.inv(np.diag(np.array(sd) ** -2.0) + x.T @ x / NOISE_SD**2)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.mean, covariance @ x.T @ y / NOISE_SD**2, rtol=1e-9, atol=1e-10)


def test_observations_that_say_nothing_are_left_out() -> None:
    dense = Observation(np.full(GROUPS, WIDTH), 1, 0.0)
    unknown = Observation(np.ones(GROUPS, dtype=int), 4, 0.3)
    plain = Surrogate({1: curves()}, [])
    broken = [Observation(np.ones(GROUPS, dtype=int), 1, value) for value in (np.inf, np.nan)]
    found = Surrogate({1: curves()}, [dense, unknown, *broken])
    np.testing.assert_array_equal(found.mean, plain.mean)
    exact = Surrogate({1: curves()}, [Observation(np.ones(GROUPS, dtype=int), 1, 0.0)])
    assert np.isfinite(exact.mean).all()
