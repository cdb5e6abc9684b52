"""What workers know of the backend that they run on."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from autoprune.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Place:
    """A started backend: joblib's `options`, and the errors that say that a worker died.

    `device` is what workers are told, `threads` are torch's (None: the cluster decides), `parent` is the
    process that they are children of.
    """

    options: Mapping[str, Any]
    deaths: tuple[type[BaseException], ...]
    device: str | None
    threads: int | None = None
    parent: int | None = None


Open = Callable[[int, "str | None", "str | None"], AbstractContextManager[Place]]
"""(workers, address of a cluster, device) -> the place while it is open."""


def imported(module: str, extra: str) -> Any:
    """A module that an extra installs; ConfigError naming the extra where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(extra) from error


def missing(extra: str) -> ConfigError:
    return ConfigError(
        f"--backend {extra} needs {extra}, which is not installed: pip install 'autoprune[{extra}]'."
    )
