"""Ways of restoring, as they are written on a command line: METHOD[@IMAGES][:OPTION=VALUE,...]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoprune.cli.build import read_option
from autoprune.components import create
from autoprune.errors import ConfigError
from autoprune.reconstruction import reconstructions

SPELLING = "METHOD[@IMAGES][:OPTION=VALUE,...]"


@dataclass(frozen=True)
class Way:
    """A reconstruction with its options, on so many calibration images; None: those of the study."""

    method: str
    options: dict[str, Any]
    images: int | None

    @classmethod
    def read(cls, text: str) -> Way:
        """ConfigError where the text is spelled otherwise, or names what there is not."""
        name, _, settings = text.partition(":")
        method, _, images = name.partition("@")
        if "@" in name and not (images.isdecimal() and int(images)):
            raise ConfigError(f"a way of restoring is spelled {SPELLING}, got '{text}'.")
        options = dict(read_option(part) for part in settings.split(",") if part)
        create(reconstructions, method, options)
        return cls(method, options, int(images) if images else None)
