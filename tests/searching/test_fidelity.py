from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.stats import spearmanr

from autoprune.searching.fidelity import LEAST, fidelities, pooled


@dataclass(frozen=True)
class Trial:
    macs_ratio: float
    accuracy: float
    proxies: dict[str, float] = field(default_factory=dict)


def trials(count: int, ratio: float, sign: float, seed: int = 0) -> list[Trial]:
    rng = np.random.default_rng(seed)
    return [Trial(ratio + 0.0005 * i, a, {"p": sign * a}) for i, a in enumerate(rng.uniform(size=count))]


def test_a_proxy_that_falls_with_the_accuracy_is_perfect_and_its_opposite_is_not() -> None:
    assert fidelities(trials(12, 0.5, -1.0))["p"].correlation == pytest.approx(1, abs=1e-3)
    assert fidelities(trials(12, 0.5, 1.0))["p"].correlation == pytest.approx(-1, abs=1e-3)


def test_cost_alone_earns_no_fidelity() -> None:
    """Two budgets: within each the proxy is wrong, across them it looks right."""
    cheap = [Trial(t.macs_ratio, t.accuracy, {"p": 5 + t.accuracy}) for t in trials(8, 0.3, 1.0)]
    dear = [Trial(t.macs_ratio, 2 + t.accuracy, {"p": t.accuracy}) for t in trials(8, 0.6, 1.0, seed=1)]
    everything = [*cheap, *dear]
    assert spearmanr([t.proxies["p"] for t in everything], [t.accuracy for t in everything]).statistic < 0
    found = fidelities(everything)["p"]
    assert found.correlation < -0.99 and found.trials == 16


def test_one_class_is_spearman_s_own_and_more_trials_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=12)
    y = -x + rng.normal(size=12)
    widths = []
    for classes in (1, 4, 16):
        found = pooled([(x.tolist(), y.tolist())] * classes)
        assert found is not None and found.low < found.correlation < found.high
        assert found.correlation == pytest.approx(-spearmanr(x, y).statistic)
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)


def test_where_nothing_can_be_ranked_nothing_is_said() -> None:
    assert fidelities([]) == {} and fidelities(trials(LEAST - 1, 0.5, -1.0)) == {}
    assert fidelities([Trial(0.5, 0.9, {"p": i}) for i in range(9)]) == {}, "equal accuracies have no order"
    assert fidelities([Trial(0.5, 0.1 * i) for i in range(9)]) == {}, "no trial has a proxy"


def test_classes_too_small_to_weigh_say_nothing() -> None:
    proxies, accuracies = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.9, 0.8, 0.7, 0.75, 0.5, 0.4]
    alone = pooled([(proxies, accuracies)])
    two, three = ([1.0, 2.0], [0.1, 0.9]), ([1.0, 2.0, 3.0], [0.1, 0.5, 0.9])
    assert alone == pooled([(proxies, accuracies), two, three])
    assert pooled([three]) is None


def test_a_broken_network_s_proxy_ranks_last() -> None:
    accuracies = [0.9, 0.8, 0.7, 0.6, 0.1]
    assert pooled([([1.0, 2.0, 3.0, 4.0, float("nan")], accuracies)]) == pooled(
        [([1.0, 2.0, 3.0, 4.0, 5.0], accuracies)]
    )
