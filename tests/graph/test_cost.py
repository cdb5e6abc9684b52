"""Cost: exact, for one candidate and for many."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.errors import ConfigError
from autoprune.graph import CostModel, count_macs

from . import networks
from .helpers import graph_of, image


def test_macs_of_dense_layers_by_hand() -> None:
    model = networks.Residual().eval()
    cost = CostModel(model, graph_of(model), (image(),))
    assert cost.dense_macs == 64 * 9 * (3 * 8 + 8 * 12 + 12 * 8) + 8 * 5
    assert cost.macs({"first": 6}) == 64 * 9 * (3 * 8 + 8 * 6 + 6 * 8) + 8 * 5
    assert cost.dense_params == sum(parameter.numel() for parameter in model.parameters())


def test_many_candidates_equal_one_by_one() -> None:
    model = networks.SqueezeExcite().eval()
    cost = CostModel(model, graph_of(model), (image(),))
    counts = np.array([[k, c] for k in range(1, 9) for c in range(1, 5)])
    many = cost.evaluate(counts)
    for row, kept in enumerate(counts):
        widths = dict(zip(cost.names, kept.tolist(), strict=True))
        assert many.macs[row] == cost.macs(widths)
        assert many.params[row] == cost.params(widths)
        assert many.bytes[row] == cost.bytes(widths)


def test_ten_thousand_candidates_are_evaluated_at_once() -> None:
    model = nn.Sequential(*(networks.conv(3 if i == 0 else 8, 8) for i in range(40))).eval()
    cost = CostModel(model, graph_of(model), (image(),))
    counts = np.random.default_rng(0).integers(1, 9, (10_000, len(cost.names)))
    found = cost.evaluate(counts)
    assert found.macs.shape == (10_000,)
    for row in (0, 5_000, 9_999):
        assert found.macs[row] == cost.macs(dict(zip(cost.names, counts[row].tolist(), strict=True)))


def test_bytes_leave_out_buffers_that_are_not_stored() -> None:
    model = networks.Scaled().eval()
    cost = CostModel(model, graph_of(model), (image(),))
    assert cost.dense_bytes == 4 * cost.dense_params


def test_count_runs_for_real_where_meta_tensors_cannot() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = networks.conv(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            last: torch.Tensor = self.last(x * float(x.amax()))
            return last

    assert count_macs(Reads(), (image(),)) == 64 * 9 * 3 * 4


def test_wrong_candidates_are_refused() -> None:
    model = networks.Residual().eval()
    cost = CostModel(model, graph_of(model), (image(),))
    with pytest.raises(ConfigError, match="one column per channel group"):
        cost.evaluate(np.ones((3, 5)))
    with pytest.raises(ConfigError, match="some outside"):
        cost.evaluate(np.array([[8, 13]]))
    with pytest.raises(ConfigError, match="did you mean 'first'"):
        cost.macs({"frist": 3})
