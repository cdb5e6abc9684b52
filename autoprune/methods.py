"""Everything that a study file can select by name: what it is, its options, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from autoprune.components import Component, options_of
from autoprune.criteria import criteria
from autoprune.errors import ConfigError, unknown_name
from autoprune.reconstruction import reconstructions
from autoprune.registry import Registry
from autoprune.searching.metrics import metrics
from autoprune.searching.strategies import strategies
from autoprune.training.losses import task_losses
from autoprune.training.recoveries import recoveries

TABLES: dict[str, Registry[Any]] = {
    "criterion": criteria,
    "strategy": strategies,
    "reconstruction": reconstructions,
    "recovery": recoveries,
    "metric": metrics,
    "loss": task_losses,
}
"""Kind of component -> its registry, in the order in which a trial meets them."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One component. `options` are names and defaults; `citation` is empty where there is none."""

    kind: str
    name: str
    summary: str
    citation: str
    options: dict[str, Any]


def methods(kind: str | None = None) -> list[Method]:
    """All components, or those of one kind; ConfigError for a kind that does not exist."""
    if kind is not None and kind not in TABLES:
        raise ConfigError(unknown_name("kind of method", kind, TABLES))
    return list(_methods([kind] if kind else list(TABLES)))


def _methods(kinds: list[str]) -> Iterator[Method]:
    for kind in kinds:
        for name in TABLES[kind]:
            entry: type[Component] = TABLES[kind][name]
            yield Method(
                kind=kind,
                name=name,
                summary=entry.summary(),
                citation=entry.citation,
                options=options_of(entry),
            )
