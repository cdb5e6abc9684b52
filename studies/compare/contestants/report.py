"""The table, and what stands beside the numbers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

from autoprune.versions import versions
from contestants.bout import Record

PEERS = ("torch-pruning", "nvidia-modelopt", "torchprofile", "model-compression-toolkit")


def circumstances() -> Record:
    """Versions, threads and hardware."""
    return {
        "versions": {**versions(), **{name: _version(name) for name in PEERS}},
        "threads": torch.get_num_threads(),
        "hardware": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.system()},
    }


def table(records: Sequence[Record]) -> str:
    """Measured rows in the order of the run; below it what was left out, and why."""
    lines = [
        "| budget | contestant | restored by | MACs | validation | test | evaluations | CPU seconds |",
        "|---" * 8 + "|",
    ]
    lines += [_row(record) for record in records if "error" not in record]
    failed = [_failure(record) for record in records if "error" in record]
    return "\n".join([*lines, *(["", "Not measured:", *failed] if failed else [])])


def _row(record: Record) -> str:
    cells = [
        f"{record['budget']:.0%}",
        record["contestant"],
        record["restored"],
        f"{record['macs_ratio']:.2%}",
        f"{record['validation']:.2%}",
        f"{record['test']:.2%}",
        str(record["evaluations"]),
        f"{record['cpu_seconds']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _failure(record: Record) -> str:
    restored = f", {record['restored']}" if "restored" in record else ""
    return f"- {record['contestant']}{restored}, {record['budget']:.0%}: {record['error']}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Linux says the model in a file; elsewhere Python knows."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
