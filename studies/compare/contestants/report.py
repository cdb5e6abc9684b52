"""The table, and the versions of the peers in it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from contestants.bout import Record

PEERS = ("torch-pruning", "nvidia-modelopt", "torchprofile", "model-compression-toolkit")


def peer_versions() -> dict[str, str]:
    return {name: _version(name) for name in PEERS}


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
