from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from autoprune.calibration.statistics import Statistics
from autoprune.criteria import criteria, group_view
from autoprune.graph.groups import Kept
from autoprune.searching.profile import Profile, carried, make_profile
from tests.small import NETWORKS, make_bench


def profiled(network: str, criterion: str = "second-moment", batches: tuple[int, ...] = (1, 3)) -> Profile:
    small = NETWORKS[network]
    bench = make_bench(small.model(), small.images(32))

    def output_error(kept: Kept) -> float:
        (name,) = kept
        return 1.0 - len(kept[name]) / bench.graph[name].width

    return make_profile(bench, criteria[criterion](), batches, output_error, seed=3)


@pytest.mark.parametrize("criterion", ["second-moment", "l1", "random"])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_group_has_an_order_and_curves_for_every_width(network: str, criterion: str) -> None:
    profile = profiled(network, criterion)
    for batch in (1, 3):
        for name, order in profile.orders[batch].items():
            width = len(order)
            assert order.sort().values.tolist() == list(range(width))
            for curves in (profile.layer_errors, profile.output_errors):
                curve = curves[batch][name]
                assert curve.shape == (width + 1,) and curve.dtype == np.float64
                assert np.isfinite(curve).all() and (np.diff(curve) <= 0).all() and curve[-1] < 1e-9
        names = list(profile.orders[batch])
        assert all(
            a is profile.output_errors[batch][n]
            for a, n in zip(profile.curves(names, batch), names, strict=True)
        )


def test_what_stays_is_nested_sorted_and_of_the_width_asked_for() -> None:
    profile = profiled("residual")
    names = {name: len(order) for name, order in profile.orders[1].items()}
    smaller = {name: 1 for name in names}
    for width in range(1, 7):
        kept = profile.kept({name: width for name in names}, 1)
        for name, indices in kept.items():
            assert len(indices) == width and bool((indices.diff() > 0).all())
            assert set(profile.kept(smaller, 1)[name].tolist()) <= set(indices.tolist())
        smaller = {name: width for name in names}
    assert all(len(indices) == names[name] for name, indices in profile.kept(names, 3).items())


def test_a_profile_repeats() -> None:
    first, second = profiled("concat", "random"), profiled("concat", "random")
    for name, order in first.orders[1].items():
        assert order.equal(second.orders[1][name])
        np.testing.assert_array_equal(first.output_errors[1][name], second.output_errors[1][name])


def test_measured_errors_are_met_and_carried() -> None:
    curve = np.array([1.0, 0.5, 0.2, 0.1, 0.0])
    found = carried(curve, [(0.5, 0.05), (0.1, 0.01)])
    np.testing.assert_allclose(found[[1, 3]], [0.05, 0.01], rtol=1e-6)
    assert 0.01 < found[2] < 0.05 and found[4] == 0
    assert found[0] == pytest.approx(0.1), "beyond the measured points the errors are proportional"
    np.testing.assert_array_equal(carried(curve, []), curve)
    noisy = carried(curve, [(0.5, 0.01), (0.1, 0.05)])
    assert (np.diff(noisy) <= 0).all(), (
        "a measurement that falls with the loss must not make wider look worse"
    )


@pytest.mark.parametrize("criterion", ["omp", "fp-backward", "lrf", "similarity", "l1", "random"])
def test_without_second_moments_the_criterion_says_itself_what_is_lost(criterion: str) -> None:
    small = NETWORKS["residual"]
    bench = make_bench(small.model(), small.images(2))
    blind = dataclasses.replace(bench, statistics=Statistics({}, 1e-3, 0))
    chooser = criteria[criterion]()
    profile = make_profile(blind, chooser, [1], lambda kept: 0.1, seed=3)
    for group in bench.graph.groups:
        found = profile.layer_errors[1][group.name]
        assert found[0] == pytest.approx(1) and found[-1] == 0 and (np.diff(found) <= 0).all()
        own = chooser.loss(
            group_view(bench.model, bench.graph, blind.statistics, group, 3), profile.orders[1][group.name]
        )
        if own is not None:
            np.testing.assert_allclose(found, own.numpy(), atol=1e-12)


def test_what_cannot_be_measured_is_left_out() -> None:
    small = NETWORKS["chain"]
    bench = make_bench(small.model(), small.images(32))

    def output_error(broken: tuple[str, ...], share: float) -> Callable[[Kept], float]:
        def error(kept: Kept) -> float:
            ((name, stays),) = kept.items()
            left = len(stays) / bench.graph[name].width
            return float("nan") if name in broken and left < share else 1.0 - left

        return error

    first, second = (group.name for group in bench.graph.groups[:2])
    chooser = criteria["second-moment"]()
    whole = make_profile(bench, chooser, [1], output_error((), 0.0), seed=3)
    partly = make_profile(bench, chooser, [1], output_error((first,), 0.4), seed=3)
    never = make_profile(bench, chooser, [1], output_error((first,), 2.0), seed=3)
    for profile in (partly, never):
        curve = profile.output_errors[1][first]
        assert np.isfinite(curve).all() and (np.diff(curve) <= 0).all() and curve[0] > 0
        np.testing.assert_array_equal(profile.output_errors[1][second], whole.output_errors[1][second])
    np.testing.assert_array_equal(never.output_errors[1][first], never.layer_errors[1][first])
