"""Study files: frozen, keyword-only configuration, validated where it enters and stored with the study.

Relative paths (`storage`, `weights`, `root` and the like) are relative to the current working
directory, not to the study file: the same file then serves a checkout and a cluster job alike.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from autoprune.errors import ConfigError, unknown_name
from autoprune.sections import (
    BudgetConfig,
    DataConfig,
    ModelConfig,
    Name,
    Place,
    ReconstructionConfig,
    RecoveryConfig,
    SearchConfig,
    Section,
    TrainingConfig,
)

__all__ = [
    "BudgetConfig",
    "DataConfig",
    "ModelConfig",
    "ReconstructionConfig",
    "RecoveryConfig",
    "SearchConfig",
    "StudyConfig",
    "TrainingConfig",
    "check_section",
    "differences",
    "load_study",
    "mask_url",
]


class StudyConfig(Section):
    """One study file. `storage` is the path of a journal file or any Optuna URL.

    `artifacts` is the folder for what is too large for the storage (weights of trained candidates,
    histories); beside the storage's own file by default.
    """

    name: Name
    storage: Place
    artifacts: Place | None = None
    model: ModelConfig
    data: DataConfig
    search: SearchConfig = SearchConfig()
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    training: TrainingConfig = TrainingConfig()


def load_study(path: str | Path) -> StudyConfig:
    """Read and validate a study file (TOML); whatever is wrong with it is a one-line ConfigError."""
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"study file '{path}' cannot be read: {error.strerror}; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"study file '{path}' is not valid TOML: {error}") from error
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_explain(problem["loc"], problem) for problem in error.errors())
        raise ConfigError(f"study file '{path}': {problems}") from error


def check_section(name: str, values: Mapping[str, Any]) -> None:
    """Validate what a study file would hold in section [name]; ConfigError in one line."""
    _section(name, values)


def with_search(config: StudyConfig, changes: Mapping[str, Any]) -> StudyConfig:
    """The study with other values in [search], checked; ConfigError in one line.

    With another objective than latency, and no budget of it, the batch that latency is measured in goes back
    to its default: nothing would read it.
    """
    values = {**config.search.model_dump(), **changes}
    if changes.get("objective", "latency") != "latency" and values["budget"]["latency_ms"] is None:
        values["latency_batch"] = SearchConfig.model_fields["latency_batch"].default
    return config.model_copy(update={"search": cast(SearchConfig, _section("search", values))})


def training_settings(values: Mapping[str, Any]) -> TrainingConfig:
    """Section [training] with these values; ConfigError in one line."""
    return cast(TrainingConfig, _section("training", values))


def _section(name: str, values: Mapping[str, Any]) -> Section:
    section: Any = StudyConfig.model_fields[name].annotation
    try:
        return cast(Section, section.model_validate(dict(values)))
    except ValidationError as error:
        raise ConfigError("; ".join(_explain((name, *p["loc"]), p) for p in error.errors())) from error


def _explain(place_of: Iterable[str | int], problem: ErrorDetails) -> str:
    *section, key = [str(part) for part in place_of]
    place = f"[{'.'.join(section)}]" if section else "the top level"
    if problem["type"] == "extra_forbidden":
        return unknown_name(f"key in {place}", key, _fields_of(section))
    if problem["type"] == "missing":
        return f"{place} needs '{key}'; add it"
    message = problem["msg"].removeprefix("Value error, ")
    got = "" if isinstance(problem["input"], Mapping) else f", got {mask_url(repr(problem['input']))[:60]}"
    return f"{'.'.join([*section, key])}: {message}{got}"


def _fields_of(section: Iterable[str]) -> list[str]:
    model: Any = StudyConfig
    for part in section:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def mask_url(url: str) -> str:
    """The same text with every password in a URL replaced by `***`."""
    masked = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", url)
    return re.sub(r"([?&]password=)[^&\s]*", r"\1***", masked)


def differences(
    stored: Mapping[str, Any], current: Mapping[str, Any], fields: Collection[str] | None = None
) -> list[str]:
    """One line per field whose values differ, with its dotted name and both values.

    `fields` are dotted names or whole sections ("data", "search.seed"); None compares everything.
    """
    before, after = _flat(stored), _flat(current)
    return [
        mask_url(f"{name}: stored {before.get(name, 'absent')}, now {after.get(name, 'absent')}")
        for name in {**before, **after}
        if before.get(name) != after.get(name) and _covers(fields, name)
    ]


def _covers(fields: Collection[str] | None, name: str) -> bool:
    return fields is None or any(name == field or name.startswith(f"{field}.") for field in fields)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            # A stored study has lists where the configuration has tuples.
            flat[f"{prefix}{key}"] = repr(list(value) if isinstance(value, tuple) else value)
    return flat
