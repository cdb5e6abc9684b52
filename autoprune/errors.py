"""One family of errors: each message says what was wanted, what came and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AutopruneError(Exception):
    """Root of every error that autoprune raises on purpose."""


class ConfigError(AutopruneError):
    """A study file, option or argument is not what it must be."""


class ModelError(AutopruneError):
    """The model cannot be imported, traced, loaded or pruned."""


class DataError(AutopruneError):
    """Images, labels or loaders are empty, not finite or of the wrong shape."""


class BudgetError(AutopruneError):
    """No candidate can satisfy the budget and the floors together."""


class StudyError(AutopruneError):
    """The stored study cannot be opened or belongs to something else."""


class PlanError(AutopruneError):
    """A saved pruning plan does not fit the model, or its files are damaged."""


class TrainingError(AutopruneError):
    """Training diverged, or a checkpoint belongs to another training."""


class ExportError(AutopruneError):
    """A network cannot be exported, or what was written does not compute the same."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that is in no table: the nearest valid one and all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"unknown {kind} '{name}'{hint} Known: {', '.join(names)}."


def listed(names: Iterable[str], shown: int = 3) -> str:
    """The first few names, and how many there are beside them."""
    every = list(names)
    more = f" and {len(every) - shown} more" if len(every) > shown else ""
    return ", ".join(every[:shown]) + more
