from __future__ import annotations

import pytest

from autoprune.errors import ConfigError
from autoprune.registry import Registry


def test_names_resolve_and_duplicates_are_refused() -> None:
    table: Registry[int] = Registry("thing")
    assert table.register("two")(2) == 2 and table.register("one")(1) == 1
    assert list(table) == ["one", "two"] and table["one"] == 1
    assert "two" in table and "three" not in table and 2 not in table
    with pytest.raises(ConfigError, match="thing 'one' is registered twice"):
        table.register("one")(3)
    assert table["one"] == 1


def test_an_unknown_name_leads_to_the_known_ones() -> None:
    table: Registry[int] = Registry("thing")
    table.register("apple")(1), table.register("pear")(2)
    with pytest.raises(ConfigError) as caught:
        table["appel"]
    assert str(caught.value) == "unknown thing 'appel'; did you mean 'apple'? Known: apple, pear."
