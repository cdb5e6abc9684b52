"""autoprune: from a trained PyTorch network to its Pareto front of accuracy against cost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from autoprune.errors import (
    AutopruneError,
    BudgetError,
    ConfigError,
    DataError,
    ModelError,
    PlanError,
    StudyError,
)

if TYPE_CHECKING:
    from autoprune.api import search
    from autoprune.plan import load
    from autoprune.searching.front import Dense, Front, Point

__all__ = [
    "AutopruneError",
    "BudgetError",
    "ConfigError",
    "DataError",
    "Dense",
    "Front",
    "ModelError",
    "PlanError",
    "Point",
    "StudyError",
    "load",
    "search",
]

_HOMES = {
    "search": "autoprune.api",
    "Dense": "autoprune.searching.front",
    "Front": "autoprune.searching.front",
    "Point": "autoprune.searching.front",
    "load": "autoprune.plan",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import; `autoprune --help` and the errors do not need it.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'autoprune' has no attribute '{name}'")
