"""Parts of the engine that a study file selects by name and sets by options.

A component is a class in a registry; the fields of its dataclass are its options. They are checked like
everything else in a study file, before any long work.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from autoprune.errors import ConfigError, unknown_name
from autoprune.registry import Registry


class Component:
    """Base of everything that `autoprune methods` lists; its docstring begins with what it does."""

    citation: ClassVar[str] = ""
    """Authors, venue and year of the method; empty where there is nothing to cite."""

    @classmethod
    def summary(cls) -> str:
        """The first paragraph of the docstring on one line."""
        return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


C = TypeVar("C", bound=Component)


def create(registry: Registry[type[C]], name: str, options: Mapping[str, Any], **given: Any) -> C:
    """The component called `name` with its `options`; `given` are fields that no study file sets.

    Raises ConfigError for an unknown name, an unknown option or a value of the wrong type or range.
    """
    cls = registry[name]
    checked = _checked(f"{registry.kind} '{name}'", cls, options, set(given))
    return cls(**given, **checked)


def options_of(cls: type[Component]) -> dict[str, Any]:
    """Names of a component's options with their defaults."""
    if not dataclasses.is_dataclass(cls):
        return {}
    every = dataclasses.fields(cls)
    return {field.name: field.default for field in every if field.default is not dataclasses.MISSING}


def check_options(registry: Registry[type[C]], name: str, options: Mapping[str, Any]) -> None:
    """ConfigError unless `create` would accept these options."""
    _checked(f"{registry.kind} '{name}'", registry[name], options, set())


def _checked(what: str, cls: type[Component], options: Mapping[str, Any], given: set[str]) -> dict[str, Any]:
    known = {name for name in options_of(cls) if name not in given}
    hints = get_type_hints(cls, include_extras=True) if options else {}
    return {name: _value(what, known, hints, name, value) for name, value in options.items()}


def _value(what: str, known: set[str], hints: Mapping[str, Any], name: str, value: Any) -> Any:
    if name not in known:
        if not known:
            raise ConfigError(f"{what} has no options, got '{name}'; leave it out.")
        raise ConfigError(unknown_name(f"option of {what}", name, known))
    try:
        adapter = TypeAdapter(hints[name], config=ConfigDict(strict=True, allow_inf_nan=False))
        return adapter.validate_python(tuple(value) if isinstance(value, list) else value)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"option '{name}' of {what}: {problem}, got {value!r}.") from None
