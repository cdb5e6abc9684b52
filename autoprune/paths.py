"""Places on disk as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from autoprune.errors import ConfigError


def expanded(place: str | Path) -> str:
    """With '~' as the home folder; a URL as it is."""
    text = str(place)
    return text if "://" in text else os.path.expanduser(text)


def check_file(path: Path, what: str, option: str) -> None:
    """ConfigError unless a file could be written there: before long work, not behind it."""
    folder, advice = path.absolute().parent, f"choose another {option}."
    if path.is_dir():
        raise ConfigError(f"{what} '{path}' cannot be written: it is a folder; {advice}")
    if not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigError(f"{what} '{path}' cannot be written: no writing in '{folder}'; {advice}")
