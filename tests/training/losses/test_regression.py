from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autoprune.errors import DataError
from autoprune.training.losses import SquaredError

LOSS = SquaredError()


def values(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (6, 2), generator=torch.Generator().manual_seed(seed))


def test_it_is_the_mean_square_of_all_differences() -> None:
    expected = ((values(0) - values(1)) ** 2).sum() / 12
    torch.testing.assert_close(LOSS.to_labels(values(0), values(1)), expected)
    torch.testing.assert_close(LOSS.to_teacher(values(0), values(1)), expected)


def test_one_value_may_have_a_dimension_of_its_own_or_none() -> None:
    # Subtracted as they are, (6, 1) and (6,) would make 36 differences.
    expected = (values(0, 6) - values(1, 6)).square().mean()
    for output, targets in [((6, 1), (6,)), ((6,), (6, 1))]:
        torch.testing.assert_close(LOSS.to_labels(values(0, *output), values(1, *targets)), expected)


def test_targets_may_be_of_another_type() -> None:
    targets = torch.arange(12).reshape(6, 2)
    for kind in (torch.int64, torch.float64, torch.float16):
        torch.testing.assert_close(
            LOSS.to_labels(values(0), targets.to(kind)), LOSS.to_labels(values(0), targets.float())
        )
    assert LOSS.to_labels(values(0).bfloat16(), targets).dtype == torch.float32


@pytest.mark.parametrize("targets", [values(1, 6), values(1, 5, 2), torch.zeros(6, 2, dtype=torch.cfloat)])
def test_targets_that_do_not_fit_are_refused(targets: Tensor) -> None:
    with pytest.raises(DataError, match=r"numbers of shape \(6, 2\) as"):
        LOSS.to_labels(values(0), targets)


def test_values_in_another_order_of_dimensions_are_others() -> None:
    with pytest.raises(DataError, match=r"shape \(6, 2, 3\)"):
        LOSS.to_labels(values(0, 6, 2, 3), values(1, 6, 3, 2))
    LOSS.to_labels(values(0, 6, 2, 1, 1), values(1, 6, 2))


def test_outputs_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(batch, values, ...\) from the network, got tuple"):
        LOSS.to_labels((values(0),), values(1))
