"""Components: options are the fields of a dataclass, checked by name, type and range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import Field

from autoprune.components import Component, check_options, create, options_of
from autoprune.errors import ConfigError
from autoprune.registry import Registry

table: Registry[type[Component]] = Registry("tool")


@table.register("saw")
@dataclass(frozen=True, kw_only=True)
class Saw(Component):
    """Cuts wood
    along the grain.

    More about it.
    """

    bench: str
    teeth: Annotated[int, Field(ge=1)] = 24
    angles: tuple[float, ...] = (0.5, 1.0)


@table.register("hammer")
class Hammer(Component):
    """Hits nails."""


def test_options_are_the_fields_with_defaults() -> None:
    assert options_of(Saw) == {"teeth": 24, "angles": (0.5, 1.0)}
    assert options_of(Hammer) == {}
    assert Saw.summary() == "Cuts wood along the grain."


def test_a_component_is_made_with_its_options_and_what_is_given() -> None:
    saw = create(table, "saw", {"teeth": 3, "angles": [0.25]}, bench="oak")
    assert saw == Saw(bench="oak", teeth=3, angles=(0.25,))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("saww", {}, "did you mean 'saw'"),
        ("saw", {"tooth": 3}, "did you mean 'teeth'"),
        ("saw", {"bench": "pine"}, "unknown option of tool 'saw' 'bench'"),
        ("saw", {"teeth": 0}, "greater than or equal to 1, got 0"),
        ("saw", {"teeth": "3"}, "valid integer, got '3'"),
        ("saw", {"angles": [float("nan")]}, "finite"),
        ("hammer", {"weight": 2}, "tool 'hammer' has no options, got 'weight'"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_options(table, name, options)
