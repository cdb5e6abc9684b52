"""Versions that a study, plan or log entry names."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("autoprune", "torch", "torchvision", "optuna", "numpy")


def versions() -> dict[str, str]:
    """Installed versions of autoprune and of what its results depend on."""
    found = {name: _version(name) for name in PACKAGES}
    return {**found, "python": platform.python_version()}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
