from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoprune.errors import StudyError
from autoprune.searching.attributes import pack, pack_all, unpack, unpack_all


@given(st.integers(1, 300).flatmap(lambda w: st.tuples(st.just(w), st.sets(st.integers(0, w - 1)))))
def test_packing_is_undone_by_unpacking(found: tuple[int, set[int]]) -> None:
    width, channels = found
    kept = torch.tensor(sorted(channels), dtype=torch.int64)
    text = pack(kept, width)
    assert unpack(text).equal(kept) and unpack(text).dtype == torch.int64
    assert unpack_all(pack_all({"a": kept}, {"a": width}))["a"].equal(kept)


@pytest.mark.parametrize(
    "text", ["", "8", "8:", ":f", "8:xyz", "8:1ff", "x:1", "8:f:f", "-1:1", "8:-1", None, 7]
)
def test_damaged_masks_are_named(text: Any) -> None:
    with pytest.raises(StudyError, match="channel mask"):
        unpack(text)


def test_something_else_than_masks() -> None:
    with pytest.raises(StudyError, match="no kept channels"):
        unpack_all(None)
