"""Private database servers for tests, which can be stopped and started again in the middle of one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

DATA = "data"


class Server(ABC):
    """A server in a folder of its own, on a free port of 127.0.0.1; what it stores survives a stop."""

    user: str | None = None
    """The system's user that it runs as when the tests run as root; None: as the tests do."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="autoprune-test-"))
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self.prepare()

    def start(self) -> None:
        """Start it and return once it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = self._popen(self.command(), log)
        end = time.monotonic() + 30
        while not self.answers():
            assert self._process.poll() is None and time.monotonic() < end, self._log()
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGINT) -> None:
        """Stop it: connections break, and new ones are refused."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _user(self) -> str | None:
        return self.user if os.geteuid() == 0 else None

    def _popen(self, command: list[str], output: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        options: dict[str, Any] = {"cwd": self.folder, "stdout": output, "stderr": output}
        if self._user is not None:
            options.update(user=self._user, group=self._user, extra_groups=[])
        return subprocess.Popen(command, **options)

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @abstractmethod
    def prepare(self) -> None:
        """What is done once, before the first start."""

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def answers(self) -> bool: ...

    @property
    @abstractmethod
    def url(self) -> str:
        """Where its storage is; what `fresh_url` names is empty."""

    @abstractmethod
    def fresh_url(self) -> str: ...


class PostgresServer(Server):
    """PostgreSQL, which refuses to run as root."""

    user = "postgres"
    fsync = "off"
    """Whether a commit waits for the disk: tests have nothing to lose."""

    @staticmethod
    def binary(name: str) -> str | None:
        """Debian keeps them out of the path, by version."""
        places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        return shutil.which(name) or (str(places[-1]) if places else None)

    @classmethod
    def installed(cls) -> bool:
        return cls.binary("initdb") is not None and cls.binary("postgres") is not None

    def prepare(self) -> None:
        program = self.binary("initdb")
        assert program is not None
        options = ["--username=tester", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        assert self._popen([program, "-D", DATA, *options]).wait(60) == 0

    def command(self) -> list[str]:
        program = self.binary("postgres")
        assert program is not None
        settings = {"fsync": self.fsync, "listen_addresses": "127.0.0.1", "unix_socket_directories": "."}
        return [program, "-D", DATA, "-p", str(self.port), *(f"--{k}={v}" for k, v in settings.items())]

    def answers(self) -> bool:
        program = self.binary("pg_isready")
        assert program is not None
        return self._popen([program, "-q", "-h", "127.0.0.1", "-p", str(self.port)]).wait(10) == 0

    @property
    def url(self) -> str:
        return f"postgresql://tester:secret@127.0.0.1:{self.port}/postgres"

    def fresh_url(self) -> str:
        return fresh_database(self.url)


class RedisServer(Server):
    """Redis that writes every change into a file before it answers."""

    @staticmethod
    def installed() -> bool:
        return shutil.which("redis-server") is not None

    def prepare(self) -> None:
        (self.folder / DATA).mkdir()

    def command(self) -> list[str]:
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": DATA, "appendonly": "yes", "save": ""}
        return ["redis-server", *(part for k, v in options.items() for part in (f"--{k}", v))]

    def answers(self) -> bool:
        import redis

        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def fresh_url(self) -> str:
        return emptied(self.url)


def fresh_database(url: str) -> str:
    """A new database on the PostgreSQL server of this URL."""
    import psycopg

    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{url.rpartition('/')[0]}/{name}"


def emptied(url: str) -> str:
    """The same Redis database, without what is in it."""
    import redis

    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
