"""How much memory a step of a pass may take: a fixed amount on a processor, a part of all there is on a GPU.

Parts of the whole and not of what is free: equal devices then work in equal steps, and give equal results.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True)
class Limit:
    """`cpu` bytes on a processor; on a GPU its memory divided by `parts`, at most `gpu` bytes."""

    cpu: int
    gpu: int
    parts: int

    def bytes(self, device: torch.device) -> int:
        """What one step may take there; on devices of other kinds as on a processor."""
        if device.type != "cuda":
            return self.cpu
        return min(self.gpu, gpu_bytes(device.index) // self.parts)


@cache
def gpu_bytes(index: int | None) -> int:
    """All memory of a GPU, the current one where no number is given."""
    memory: int = torch.cuda.get_device_properties(index).total_memory
    return memory
