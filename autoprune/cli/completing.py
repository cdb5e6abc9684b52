"""Names that a shell completes, found without importing PyTorch: a key press should not wait for it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PLACES = {
    "criterion": ("criteria", "criteria"),
    "strategy": ("strategies", "searching/strategies"),
    "reconstruction": ("reconstructions", "reconstruction"),
    "recovery": ("recoveries", "training"),
    "metric": ("metrics", "searching/metrics"),
    "loss": ("task_losses", "training/losses"),
}
"""Kind of method -> its table as the code calls it, and the folder whose files register in it."""


@cache
def names(kind: str) -> tuple[str, ...]:
    """Names of one kind, sorted, as they stand in the source: each is registered by a decorator."""
    table, folder = PLACES[kind]
    root = Path(__file__).parents[1] / folder
    text = "\n".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py"))
    return tuple(sorted(re.findall(rf'^@{table}\.register\("([^"]+)"\)', text, re.MULTILINE)))


def complete_kinds(incomplete: str) -> list[str]:
    return [kind for kind in PLACES if kind.startswith(incomplete)]


def complete_reconstructions(incomplete: str) -> list[str]:
    return [name for name in names("reconstruction") if name.startswith(incomplete)]


def complete_backends(incomplete: str) -> list[str]:
    return [name for name in ("loky", "dask", "ray") if name.startswith(incomplete)]
