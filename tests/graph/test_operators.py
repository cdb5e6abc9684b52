from __future__ import annotations

import pytest
import torch
from torch import fx

from autoprune.graph.operators import _rule_of
from autoprune.graph.operators_elementwise import elementwise

ATEN = torch.ops.aten


@pytest.mark.parametrize(
    "operator",
    [ATEN.gelu_.default, ATEN.relu6_.default, ATEN.hardtanh_.default, ATEN.mish_.default, ATEN.relu_.default],
)
def test_in_place_activations_follow_the_plain_ones(operator: torch._ops.OpOverload) -> None:
    """Some in-place variants lack the tag of the plain operator, which ones depends on the version."""
    node = fx.Graph().call_function(operator)
    assert _rule_of(node) is elementwise


def test_unknown_operators_are_not_taken_for_elementwise() -> None:
    for operator in (ATEN.sort.default, ATEN.cumsum_.default, ATEN.random_.default):
        assert _rule_of(fx.Graph().call_function(operator)) is not elementwise
