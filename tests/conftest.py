"""Fixtures for every test: real servers, each test with a storage that is empty.

AUTOPRUNE_TEST_POSTGRES and AUTOPRUNE_TEST_REDIS name servers that run already (the Redis database is
emptied!). Otherwise private ones are started where the programs are installed; else the tests skip.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.services import PostgresServer, RedisServer, Server, emptied, fresh_database

# Read when torch is first imported, also in programs that tests start: results then do not depend on how a
# library splits its work, and two test processes share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Started in the background of a shell, tests and the programs they start would be deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A private PostgreSQL server, which a test may stop, and must leave started."""
    pytest.importorskip("psycopg")
    yield from _run(PostgresServer)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """A private Redis server, which a test may stop, and must leave started."""
    pytest.importorskip("redis")
    yield from _run(RedisServer)


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> str:
    """An empty PostgreSQL database."""
    if running := os.environ.get("AUTOPRUNE_TEST_POSTGRES"):
        return fresh_database(running)
    url: str = request.getfixturevalue("postgres_server").fresh_url()
    return url


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """An empty Redis database."""
    if running := os.environ.get("AUTOPRUNE_TEST_REDIS"):
        return emptied(running)
    url: str = request.getfixturevalue("redis_server").fresh_url()
    return url


def _run(kind: type[PostgresServer] | type[RedisServer]) -> Iterator[Server]:
    if not kind.installed():
        pytest.skip(f"{kind.__name__} is not installed")
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.remove()
