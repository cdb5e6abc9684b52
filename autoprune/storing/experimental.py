"""What Optuna says of itself and users need not hear: that a part is experimental, that a study was made."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.exceptions import ExperimentalWarning

# Filters of warnings and levels of logging belong to the process, not to the thread.
_lock = threading.Lock()


@contextmanager
def without_notes() -> Iterator[None]:
    """Without Optuna's notes (its warnings remain) within the block, which must be short."""
    with _lock:
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Without that warning within the block, which must be short."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
