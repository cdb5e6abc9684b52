"""Fair seconds: synchronised with the device, interleaved, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from autoprune.data.inputs import Inputs

Work = Callable[[], Any]


def seconds(work: Work, device: torch.device) -> float:
    """Wall time of one call, until the device has finished."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(works: Mapping[str, Work], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each work, `repeats` times after one warm-up, in turns: what disturbs one disturbs all."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            taken = seconds(work, device)
            if turn > 0:
                found[name].append(taken)
    return found


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}


@torch.no_grad()
def forward(network: nn.Module, batches: Sequence[Inputs]) -> None:
    """Nothing but the network's forward passes."""
    for batch in batches:
        batch.call(network)
