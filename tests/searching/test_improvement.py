"""What a candidate may add: against numbers that were counted in another way."""

from __future__ import annotations

import numpy as np
import pytest

from autoprune.searching.hypervolume import hypervolume
from autoprune.searching.improvement import LEAST_SD, Forecast, Stairs, expected_excess


@pytest.mark.parametrize(("mean", "sd"), [(0.3, 0.1), (-0.3, 0.1), (0.0, 1.0), (-0.02, 0.5), (5.0, 0.01)])
def test_the_expected_excess_is_that_of_many_draws(mean: float, sd: float) -> None:
    draws = mean + sd * np.random.default_rng(0).standard_normal(400_000)
    assert expected_excess(mean, sd) == pytest.approx(np.maximum(draws, 0.0).mean(), abs=0.004 * sd + 1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_of_a_known_accuracy_the_improvement_is_the_growth_of_the_hypervolume(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [(float(c), float(a)) for c, a in rng.uniform(0.1, 1.0, (rng.integers(0, 12), 2))]
    stairs = Stairs.of(points, (0.05, 0.1), 1.0)
    cost, accuracy = (float(value) for value in rng.uniform(0.06, 0.99, 2))
    before, after = (
        hypervolume([(a, c) for c, a in found], accuracy=0.1)
        for found in (points, [*points, (cost, accuracy)])
    )
    assert stairs.improvement(cost, accuracy, 1e-9) == pytest.approx(after - before, abs=1e-7)


def test_who_may_be_better_improves_more_than_who_is_the_same_for_certain() -> None:
    stairs = Stairs.of([(10.0, 0.5), (20.0, 0.6), (15.0, 0.4)], (0.0, 0.0), 30.0)
    assert stairs.costs.tolist() == [0.0, 10.0, 20.0]
    assert stairs.improvement(15.0, 0.5, 0.05) > stairs.improvement(15.0, 0.5, 0.01) > 0.0
    assert stairs.improvement(12.0, 0.55, 0.01) > stairs.improvement(18.0, 0.55, 0.01)
    assert stairs.between() == [5.0, 15.0, 25.0]
    assert stairs.at(15.0) == pytest.approx(0.55)
    assert stairs.gain(15.0, 0.5, 0.01) == stairs.gain(12.0, 0.5, 0.01) == expected_excess(0.0, 0.01)
    assert stairs.gain(20.0, 0.5, 0.01) < 1e-12, "0.6 is known there"


def test_a_forecast_follows_the_candidates_of_similar_cost() -> None:
    rng = np.random.default_rng(0)
    costs = np.repeat([20.0, 80.0], 30)
    judgements = rng.uniform(0.1, 0.4, 60)
    accuracies = np.where(costs < 50, 0.8 - 2 * judgements, 0.9 - judgements)
    forecast = Forecast(costs, judgements, accuracies, 100.0)
    for cost, judgement, expected in ((20.0, 0.2, 0.4), (80.0, 0.3, 0.6)):
        mean, sd = forecast(cost, judgement)
        assert mean == pytest.approx(expected, abs=0.01)
        assert LEAST_SD <= sd < 0.02


def test_a_forecast_knows_its_noise_and_does_not_follow_it() -> None:
    rng = np.random.default_rng(1)
    judgements = rng.uniform(0.1, 0.4, 200)
    noise = 0.03 * rng.standard_normal(200)
    mean, sd = Forecast(np.full(200, 50.0), judgements, 0.7 + noise, 100.0)(50.0, 0.2)
    assert mean == pytest.approx(0.7, abs=0.01) and sd == pytest.approx(0.03, rel=0.2)


def test_a_forecast_from_equal_judgements_is_the_mean() -> None:
    forecast = Forecast(np.full(5, 50.0), np.full(5, 0.3), np.linspace(0.5, 0.7, 5), 100.0)
    mean, sd = forecast(50.0, 0.3)
    assert mean == pytest.approx(0.6) and 0.0 < sd < 0.2
