"""Where studies live: one spelling for every storage, a path or a URL."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from autoprune.config import mask_url
from autoprune.errors import StudyError, unknown_name
from autoprune.storing.journal import BEGINNING, JournalFile
from autoprune.storing.patience import Patience
from autoprune.storing.patient import patient

_KINDS = ("sqlite", "postgresql", "mysql", "redis", "grpc")
_EXTRAS = {"postgresql": "postgres", "postgres": "postgres", "mysql": "mysql", "mariadb": "mysql"}
_EXTRAS |= {"redis": "redis", "rediss": "redis", "grpc": "grpc"}


def open_storage(storage: str | None, *, create: bool = True) -> BaseStorage:
    """Where a study is stored, opened: every command and function names it in the same way.

    - `path/to/study.journal`: a journal file, for the workers of one host
    - `sqlite:///file.db`: SQLite, for one process
    - `postgresql://user:password@host/base` and `mysql://...`: for many hosts
    - `redis://:password@host/0`: a journal on a Redis server, for many hosts
    - `grpc://host:port`: Optuna's storage proxy
    - None: the memory of this process

    `create` false: a file that is absent stays so. Raises StudyError when it cannot be opened or, for a
    file, written; servers must answer now, and are waited for when they go away later.
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
    except NoSuchModuleError:
        kind = make_url(storage).drivername
        raise StudyError(f"storage '{mask_url(storage)}': {unknown_name('kind', kind, _KINDS)}") from None
    except ImportError as error:
        raise _missing(storage) from error
    except Exception as error:
        raise StudyError(f"storage '{mask_url(storage)}' cannot be opened: {_reason(error)}") from error


def _open(storage: str, create: bool) -> BaseStorage:
    if "://" not in storage:
        return JournalStorage(JournalFile(_journal(Path(storage), create)))
    url = parsed(storage)
    place = mask_url(storage)
    if url.drivername in ("redis", "rediss"):
        from autoprune.storing.redis_journal import JournalRedis

        return JournalStorage(JournalRedis(storage, Patience(place)))
    if url.drivername == "grpc":
        return _answering(_proxy(url), Patience(place))
    from autoprune.storing.databases import open_database, with_driver

    if url.get_backend_name() == "sqlite":
        if not create and url.database not in (None, "", ":memory:"):
            _existing(Path(str(url.database)))
        # A file is not away: what goes wrong with it is an error at once.
        return patient(open_database(url), Patience(place, limit=0))
    return _answering(open_database(with_driver(url)), Patience(place))


def existing_journal(storage: str) -> JournalFile:
    """The journal at this path; StudyError where there is none."""
    return JournalFile(_journal(Path(storage), create=False))


def is_database(storage: str) -> bool:
    """Whether this URL is of an SQL database; StudyError when it is no URL."""
    return parsed(storage).get_backend_name() not in ("redis", "rediss", "grpc")


def _answering(opened: BaseStorage, patience: Patience) -> BaseStorage:
    """A server's storage, once it has answered: the first connection is not waited for."""
    opened.get_all_studies()
    return patient(opened, patience)


def _proxy(url: URL) -> BaseStorage:
    from autoprune.storing.proxy import open_proxy

    if url.host is None or url.port is None:
        raise StudyError(f"storage '{mask_url(str(url))}' should be grpc://host:port.")
    return open_proxy(url.host, url.port)


def parsed(storage: str) -> URL:
    """The parts of a URL; StudyError, which repeats no part of it, when it is none."""
    try:
        urlsplit(storage).port  # noqa: B018, redis reads the port in this way
        return make_url(storage)
    except (ArgumentError, ValueError):
        # The reason would quote a piece of a password that was not escaped.
        raise StudyError(
            f"storage '{mask_url(storage)}' is no valid URL (kind://user:password@host:port/name); write "
            "special characters of a password as %40 and the like."
        ) from None


def _missing(storage: str) -> StudyError:
    extra = _EXTRAS.get(make_url(storage).get_backend_name())
    if extra is None:
        return StudyError(f"storage '{mask_url(storage)}' needs a database driver that is not installed.")
    return StudyError(
        f"storage '{mask_url(storage)}' needs what is not installed: pip install 'autoprune[{extra}]'."
    )


def _reason(error: BaseException) -> str:
    # Optuna wraps what SQLAlchemy raises, and says less; gRPC says it in `details`.
    if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    details = getattr(error, "details", None)
    text = str((details() if callable(details) else None) or error).strip()
    return mask_url(text.splitlines()[0] if text else type(error).__name__)


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
    """Appending to any other file would damage it."""
    try:
        with path.open("rb") as file:
            line = file.readline()
        # The first record may be half written: its writer was killed.
        torn = BEGINNING.startswith(line) or (line.startswith(BEGINNING) and not line.endswith(b"\n"))
        if not torn and "op_code" not in json.loads(line):
            raise ValueError
    except FileNotFoundError:
        return
    except (ValueError, TypeError):
        raise StudyError(f"storage '{path}' is a file, but no journal; choose another path.") from None
    except OSError as error:
        raise StudyError(
            f"storage '{path}' cannot be read: {error.strerror}; choose another path."
        ) from error
