"""optuna-dashboard behind a server of the standard library, one thread per request."""

from __future__ import annotations

import socket
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.simple_server import make_server as make_wsgi_server

from optuna.storages import BaseStorage

from autoprune.dashboard.preparing import check_installed
from autoprune.errors import ConfigError
from autoprune.storing.artifacts import Artifacts


class Server(ThreadingMixIn, WSGIServer):
    """`serve_forever()` runs it, `shutdown()` from another thread ends it."""

    daemon_threads = True

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def server_bind(self) -> None:
        """As the base class does it, without asking a name server who this machine is."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class ServerV6(Server):
    address_family = socket.AF_INET6


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nobody's news."""


def make_server(storage: BaseStorage, artifacts: Artifacts, host: str, port: int) -> Server:
    """The dashboard of a storage, listening; port 0 takes a free one. It asks nobody for a password.

    Raises ConfigError where the address cannot be used, or optuna-dashboard is not installed.
    """
    check_installed()
    from optuna_dashboard import wsgi

    app = wsgi(storage, artifact_store=artifacts.store)
    try:
        return make_wsgi_server(host, port, app, ServerV6 if ":" in host else Server, Quiet)
    except OSError as error:
        raise ConfigError(
            f"the dashboard cannot listen on {host}:{port}: {error.strerror or error}; choose another --port "
            "or --host."
        ) from error
