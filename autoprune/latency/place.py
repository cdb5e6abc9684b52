"""Where a latency was measured: latencies of one device say nothing of another."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]


def device_name(device: torch.device, listing: Path = Path("/proc/cpuinfo")) -> str:
    """The name of the GPU, or of the processor as Linux lists it or as Python knows it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = listing.read_text().splitlines() if listing.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = named[0] if named else platform.processor() or platform.machine()
    return processor if device.type == "cpu" else f"{device.type} of {processor}"


@contextmanager
def alone() -> Iterator[None]:
    """One measurement at a time on this host, among the processes of this user.

    Other work disturbs all the same: nobody can lock out what does not ask.
    """
    with nullcontext() if fcntl is None else _locked():
        yield


@contextmanager
def _locked() -> Iterator[None]:
    owner = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir()) / f"autoprune-timing-{owner}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        # A host without a folder for it: measured without the lock, as other load would be.
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def threads_set(count: int) -> Iterator[None]:
    """PyTorch with so many CPU threads, and as before afterwards."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)
