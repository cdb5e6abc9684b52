"""Parts of Optuna that warn of being experimental: we test against them, so users need not hear it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import ExperimentalWarning

# Filters of warnings belong to the process, not to the thread.
_lock = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Without that warning within the block, which must be short."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
