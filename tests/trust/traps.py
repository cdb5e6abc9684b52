"""Files that run a command where they are unpickled."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Change = Callable[[dict[str, Any]], object]
"""Spoils the content of a file in place."""


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.flag}'",)


def write_trap(path: Path, flag: Path, kind: str) -> None:
    content = {"weight": Trap(flag), "a": Trap(flag)}
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif kind == "zip":
        torch.save(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=False)


KINDS = ["pickle", "zip", "legacy"]
