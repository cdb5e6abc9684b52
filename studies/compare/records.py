"""The JSON record of a comparison: its numbers beside all that they depend on.

`Record(path, vars(options), device).write(points=points)`, as often as there is news: a run that is cut short
keeps what it had.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from autoprune.versions import versions


class Record:
    """One JSON file: circumstances first, then whatever was measured."""

    def __init__(self, path: Path, arguments: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        self.path = path
        self.head = circumstances(arguments, torch.device(device))

    def write(self, **measured: Any) -> None:
        """Replace the file's contents, in one step, by the circumstances and these entries."""
        partial = self.path.with_name(f"{self.path.name}.partial")
        partial.write_text(json.dumps({**self.head, **measured}, indent=1, default=str) + "\n")
        partial.replace(self.path)


def circumstances(arguments: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Date, arguments, versions and hardware. Where the output goes is no circumstance."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "arguments": {key: value for key, value in arguments.items() if key not in ("out", "plot")},
        "versions": versions(),
        "hardware": hardware(device),
        "threads": torch.get_num_threads(),
    }


def hardware(device: torch.device) -> dict[str, Any]:
    """The processor, its cores, and the accelerator where one does the work."""
    found: dict[str, Any] = {"cpu": cpu_model(), "cores": os.cpu_count(), "device": str(device)}
    if device.type == "cuda":
        found["device_name"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
    return found


def cpu_model(listing: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as Linux lists it or as Python knows it."""
    lines = listing.read_text().splitlines() if listing.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
