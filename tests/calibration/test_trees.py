from __future__ import annotations

from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from autoprune.calibration.trees import leaves, with_tensors

A, B = torch.ones(2), torch.zeros(3)
Pair = namedtuple("Pair", "left right")
TREES: dict[str, Any] = {
    "tensor": A,
    "arguments": ((A, B, (1, 1), "same", None, 2.5, True), {"bias": B}),
    "lists": [[A, [B]], [], ()],
    "other containers": (OrderedDict(x=A, y=[B]), Pair(A, (B, 1))),
    "size and type": (A.shape, torch.float16, torch.device("cpu"), slice(None)),
    "nothing": ((), {}),
}


@pytest.mark.parametrize("name", TREES)
def test_leaves_are_those_of_torch(name: str) -> None:
    found, wanted = leaves(TREES[name]), pytree.tree_leaves(TREES[name])
    assert [id(leaf) for leaf in found if isinstance(leaf, torch.Tensor)] == [
        id(leaf) for leaf in wanted if isinstance(leaf, torch.Tensor)
    ]
    assert [repr(leaf) for leaf in found] == [repr(leaf) for leaf in wanted]


@pytest.mark.parametrize("name", TREES)
def test_tensors_are_changed_and_nothing_else(name: str) -> None:
    found = with_tensors(lambda tensor: tensor + 1, TREES[name])
    wanted = pytree.tree_map_only(torch.Tensor, lambda tensor: tensor + 1, TREES[name])
    assert repr(found) == repr(wanted) and type(found) is type(wanted)
