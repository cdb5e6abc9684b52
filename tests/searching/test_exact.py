from __future__ import annotations

import math

import numpy as np
import pytest

from autoprune.searching.exact import ExactSum


@pytest.mark.parametrize("seed", range(4))
def test_the_order_and_the_parts_make_no_difference_to_the_last_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(300, 4, 3)) * 10.0 ** rng.integers(-9, 6, (300, 4, 3))
    whole, parts = ExactSum(4, 3), ExactSum(4, 3)
    whole.add(terms)
    for part in np.array_split(rng.permutation(terms), 7):
        parts.add(part)
    np.testing.assert_array_equal(whole.value, parts.value)
    exact = [[math.fsum(terms[:, i, j]) for j in range(3)] for i in range(4)]
    np.testing.assert_allclose(whole.value, exact, rtol=1e-14, atol=1e-15)


def test_no_terms() -> None:
    nothing = ExactSum(2)
    nothing.add(np.zeros((0, 2)))
    np.testing.assert_array_equal(nothing.value, [0.0, 0.0])
