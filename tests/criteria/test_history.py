from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from autoprune.criteria import History
from autoprune.criteria.history import distances
from autoprune.errors import ConfigError
from tests.criteria.views import view


def order_of(history: list[list[float]], remove: str = "smaller") -> list[int]:
    """Order of removal for one producer, from one path of norms per channel."""
    paths = torch.tensor(history).T[None]
    seen = dataclasses.replace(view(width=len(history)), history=paths)
    return History(remove=remove).order(seen, 1).tolist()  # type: ignore[arg-type]


def test_distances_are_summed_over_epochs_and_producers() -> None:
    history = view(width=6).history
    assert isinstance(history, Tensor)
    found = distances(history.double())
    for i in range(6):
        for j in range(6):
            wanted = (history[:, :, i] - history[:, :, j]).abs().sum()
            assert float(found[i, j]) == pytest.approx(float(wanted), rel=1e-5)


def test_the_closest_pair_loses_its_smaller_member_or_its_larger() -> None:
    paths = [[9.0, 9.0], [1.0, 2.0], [5.0, 5.1], [5.0, 5.0]]
    assert order_of(paths) == [3, 1, 2, 0]
    assert order_of(paths, "larger") == [2, 3, 0, 1]


def test_norms_that_end_alike_but_went_apart_are_no_pair() -> None:
    assert order_of([[1.0, 9.0, 5.0], [9.0, 1.0, 5.0], [2.0, 8.0, 4.0], [30.0, 30.0, 30.0]])[0] == 2


def test_pairs_that_share_a_channel_lose_one_at_a_time() -> None:
    assert order_of([[1.0], [1.1], [1.25], [4.0]]) == [0, 1, 2, 3]


def test_without_a_history_the_error_says_how_to_record_one() -> None:
    seen = dataclasses.replace(view(), history=None)
    with pytest.raises(ConfigError, match=r"'group' over training, got none; record them"):
        History().order(seen, 1)
    with pytest.raises(ConfigError, match="record them"):
        History().loss(seen, torch.arange(9))
