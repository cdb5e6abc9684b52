"""Where studies live: one spelling for every storage, a path or a URL."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url

from autoprune.config import mask_url
from autoprune.errors import StudyError

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(storage: str | None, *, create: bool = True) -> BaseStorage:
    """A path is a journal file, anything with `://` an Optuna URL, None the memory of this process.

    Raises StudyError when it cannot be opened or, for a file, written.
    """
    if storage is None:
        return InMemoryStorage()
    try:
        opened = _open(storage, create)
        # The first look into it: what is no journal, or needs a password, is known at once.
        optuna.get_all_study_names(opened)
        return opened
    except StudyError:
        raise
    except Exception as error:
        reason = mask_url(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        raise StudyError(f"storage '{mask_url(storage)}' cannot be opened: {reason}") from error


def _open(storage: str, create: bool) -> BaseStorage:
    if "://" not in storage:
        return JournalStorage(JournalFileBackend(str(_journal(Path(storage), create))))
    url = make_url(storage)
    if not create and url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        _existing(Path(str(url.database)))
    return optuna.storages.get_storage(storage)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise StudyError(
            f"storage '{path}' does not exist; run 'autoprune search' first, or check --storage."
        )
    return path


def _journal(path: Path, create: bool) -> Path:
    if path.is_dir():
        raise StudyError(f"storage '{path}' should be a journal file, but it is a folder; name a file in it.")
    _check_journal(path)
    if not create:
        return _existing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a"):
            pass
    except OSError as error:
        raise StudyError(
            f"storage '{path}' cannot be written: {error.strerror}; choose another path."
        ) from error
    return path


def _check_journal(path: Path) -> None:
    """Optuna would append to any file, and could then read neither its own lines nor the user's."""
    try:
        with path.open("rb") as file:
            line = file.readline()
        if line and "op_code" not in json.loads(line):
            raise ValueError
    except FileNotFoundError:
        return
    except (ValueError, TypeError):
        raise StudyError(f"storage '{path}' is a file, but no journal; choose another path.") from None
    except OSError as error:
        raise StudyError(
            f"storage '{path}' cannot be read: {error.strerror}; choose another path."
        ) from error
