"""What each worker gets of a machine: CPU threads, and a CUDA device."""

from __future__ import annotations

import math

import joblib
import torch


def threads_each(workers: int) -> int:
    """Threads of one of several workers on this machine: its share of the CPUs, and never more than this
    process would use itself, so that OMP_NUM_THREADS holds for workers too."""
    return min(share_of(joblib.cpu_count(), workers), torch.get_num_threads())


def share_of(cpus: int, workers: int) -> int:
    """Threads per worker, at least one."""
    return max(1, cpus // workers)


def device_for(wanted: str | None, index: int, devices: int) -> str | None:
    """The device of worker `index` among `devices` CUDA devices: in turn, unless one is named.

    Without a wish and with less than two CUDA devices nothing changes: None, the default device.
    """
    spread = wanted == "cuda" or (wanted is None and devices > 1)
    return f"cuda:{index % devices}" if spread and devices else wanted


def gpu_share(workers: int, gpus: int) -> float:
    """The part of a GPU that each worker may ask a cluster for, such that all of them find a place."""
    return 1.0 / math.ceil(workers / gpus) if gpus else 0.0
