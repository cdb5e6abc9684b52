"""The one table of datasets that a study file can name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoprune.config import DataConfig
from autoprune.data.splits import Splits
from autoprune.errors import ConfigError
from autoprune.registry import Registry

Builder = Callable[[DataConfig], Splits]
COMMON = frozenset({"dataset", "batch_size", "calibration_images", "validation_images", "metric"})


@dataclass(frozen=True)
class Entry:
    """How to build a dataset, and the options of [data] that it reads."""

    build: Builder
    reads: frozenset[str]


datasets: Registry[Entry] = Registry("dataset")


def register(name: str, *, reads: tuple[str, ...]) -> Callable[[Builder], Builder]:
    """Decorator that enters a builder under `name`; ConfigError where the name is taken."""

    def enter(build: Builder) -> Builder:
        datasets.register(name)(Entry(build, COMMON | frozenset(reads)))
        return build

    return enter


def build_named(config: DataConfig) -> Splits:
    """The splits of a registered dataset; ConfigError for an unknown name or an option it would ignore."""
    entry = datasets[config.dataset]
    for name, field in DataConfig.model_fields.items():
        if name not in entry.reads and getattr(config, name) != field.default:
            raise ConfigError(
                f"dataset '{config.dataset}' does not read '{name}' in [data]; remove it. "
                f"It reads: {', '.join(sorted(entry.reads))}."
            )
    return entry.build(config)
