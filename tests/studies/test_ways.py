"""Ways of restoring on a command line."""

from __future__ import annotations

import pytest

from autoprune.errors import ConfigError
from ways import Way


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("joint", Way("joint", {}, None)),
        ("joint:steps=40,mirror=true", Way("joint", {"steps": 40, "mirror": True}, None)),
        ("casm@5000:start=joint", Way("casm", {"start": "joint"}, 5000)),
    ],
)
def test_they_are_read_as_written(text: str, way: Way) -> None:
    assert Way.read(text) == way


@pytest.mark.parametrize(
    "text", ["casm@", "casm@0", "casm@many:steps=1", "casm@-5", "joint:steps", "joined", "joint:step=3"]
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Way.read(text)
