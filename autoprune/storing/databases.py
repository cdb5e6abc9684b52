"""SQL databases: Optuna's storage with drivers, pools and timeouts that suit several workers."""

from __future__ import annotations

import logging
import os
import random
import time
import weakref
from typing import Any

from optuna.storages import BaseStorage, RDBStorage, _CachedStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import IntegrityError, ProgrammingError

from autoprune.storing.experimental import quiet
from autoprune.storing.patient import CALL

# What they report of a lost connection, with the queries, is told once and in one line by Patience.
logging.getLogger("optuna.storages._rdb.storage").setLevel(logging.ERROR)
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

HEARTBEAT_INTERVAL, GRACE_PERIOD = 15, 60
"""Seconds between two signs of life of a running trial, and without one until its worker is held dead."""
LOCK_TIMEOUT = 60.0
"""Seconds that a writer to an SQLite file waits for another."""
CONNECT_TIMEOUT = 10
"""Seconds until a server that does not answer counts as away."""
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_CONNECTING: dict[str, dict[str, Any]] = {
    # A host that vanishes without a word is noticed within a minute.
    "psycopg": {
        "connect_timeout": CONNECT_TIMEOUT,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    },
    "pymysql": {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": 60, "write_timeout": 60},
}


def with_driver(url: URL) -> URL:
    """The same URL with our driver, where it names none."""
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def open_database(url: URL) -> BaseStorage:
    """The storage in a database, whose tables are made if need be. Raises what the driver raises."""
    is_file = url.get_backend_name() == "sqlite"
    options = _sqlite_options() if is_file else _server_options(url)
    # Optuna fills braces in a URL.
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    for attempt in range(5):
        try:
            return _CachedStorage(_new_database(text, options))
        except (IntegrityError, ProgrammingError):
            # Two workers make the tables of an empty database at the same moment; one of them is too late.
            if attempt == 4:
                raise
            time.sleep(random.uniform(0.1, 0.5))
    raise AssertionError


def _new_database(url: str, options: dict[str, Any]) -> Database:
    with quiet():
        return Database(url, **options)


def _sqlite_options() -> dict[str, Any]:
    return {"engine_kwargs": {"connect_args": {"timeout": LOCK_TIMEOUT}}}


def _server_options(url: URL) -> dict[str, Any]:
    connecting = {k: v for k, v in _CONNECTING.get(url.get_driver_name(), {}).items() if k not in url.query}
    # A worker needs one connection and its signs of life another; more only while more threads ask.
    pool = {"pool_pre_ping": True, "pool_size": 2, "max_overflow": -1, "pool_recycle": 1800}
    return {
        "engine_kwargs": {**pool, "connect_args": connecting},
        "heartbeat_interval": HEARTBEAT_INTERVAL,
        "grace_period": GRACE_PERIOD,
    }


class Database(RDBStorage):
    """Optuna's SQL storage, which finds a trial that was made before the connection broke.

    Optuna repeats a creation that failed by itself, and the failed one may have been stored all the same.
    """

    def __init__(self, url: str, **options: Any) -> None:
        try:
            super().__init__(url, **options)
        except BaseException:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise
        self._tried: set[str] = set()
        weakref.finalize(self, _close, self.engine, os.getpid())

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        weakref.finalize(self, _close, self.engine, os.getpid())

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        trial = super()._create_new_trial(study_id, template_trial)
        self._tried.discard(_call(template_trial))
        return trial

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Any
    ) -> models.TrialModel:
        """Within the transaction that creates a trial: the study is locked, nobody else creates one."""
        call = _call(template_trial)
        if call in self._tried and (made := _made_by(call, study_id, session)) is not None:
            return made
        if call:
            self._tried.add(call)
        return super()._get_prepared_new_trial(study_id, template_trial, session)


def _close(engine: Engine, process: int) -> None:
    """Close the pool's connections, unless they are those of the process that this one was forked from."""
    engine.dispose(close=os.getpid() == process)


def _call(template: FrozenTrial | None) -> str:
    return "" if template is None else str(template.system_attrs.get(CALL, ""))


def _made_by(call: str, study_id: int, session: Any) -> models.TrialModel | None:
    attributes = models.TrialSystemAttributeModel
    query = session.query(models.TrialModel).join(attributes).filter(models.TrialModel.study_id == study_id)
    found: models.TrialModel | None
    found = query.filter(attributes.key == CALL, attributes.value_json == f'"{call}"').first()
    return found
