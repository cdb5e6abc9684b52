from __future__ import annotations

import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn

from autoprune.errors import DataError
from autoprune.searching.metrics import R2

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(9,), (9, 1), (9, 3)])
def test_values_are_scikit_learn_s(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = 1000 + torch.randn(shape, generator=generator)
    for noise in (0.1, 5.0):
        found = targets + noise * torch.randn(shape, generator=generator)
        assert R2([(found, targets)], CPU)(nn.Identity()) == pytest.approx(r2_score(targets, found), rel=1e-4)


def test_a_column_of_one_is_no_matrix_of_differences() -> None:
    targets = torch.randn(8)
    assert R2([(targets[:, None], targets)], CPU)(nn.Identity()) == 1.0
    assert R2([(targets, targets[:, None])], CPU)(nn.Identity()) == 1.0


def test_the_mean_has_zero_and_worse_is_negative() -> None:
    targets = torch.randn(8)
    assert R2([(targets.mean().expand(8), targets)], CPU)(nn.Identity()) == pytest.approx(0, abs=1e-6)
    assert R2([(-targets, targets)], CPU)(nn.Identity()) < 0


def test_targets_that_do_not_fit_are_named() -> None:
    values = torch.randn(4)
    with pytest.raises(DataError, match="floating-point"):
        R2([(values, torch.arange(4))], CPU)
    with pytest.raises(DataError, match="NaN or infinity"):
        R2([(values, values / 0)], CPU)
    with pytest.raises(DataError, match="same one for all"):
        R2([(values, torch.ones(4))], CPU)(nn.Identity())
    with pytest.raises(DataError, match=r"\(4, 2\)"):
        R2([(values, torch.randn(4, 2))], CPU)(nn.Identity())
