from __future__ import annotations

import pytest
import torch

from autoprune import memory
from autoprune.memory import Limit

LIMIT = Limit(cpu=10, gpu=1000, parts=8)


@pytest.mark.parametrize(("there", "wanted"), [(800, 100), (8000, 1000), (80_000, 1000)])
def test_a_gpu_gives_a_part_of_its_memory_up_to_a_limit(
    there: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int | None] = []

    def all_of(index: int | None) -> int:
        seen.append(index)
        return there

    monkeypatch.setattr(memory, "gpu_bytes", all_of)
    assert LIMIT.bytes(torch.device("cuda", 1)) == wanted and seen == [1]


@pytest.mark.parametrize("kind", ["cpu", "meta", "mps"])
def test_elsewhere_nothing_is_asked(kind: str) -> None:
    assert LIMIT.bytes(torch.device(kind)) == 10
