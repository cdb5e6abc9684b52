"""Client of Optuna's storage proxy: many workers reach a database through one server, by gRPC."""

from __future__ import annotations

import grpc
from optuna.storages import GrpcStorageProxy
from optuna.storages._grpc.auto_generated import api_pb2_grpc
from optuna.storages._grpc.client import GrpcClientCache

from autoprune.storing.experimental import quiet
from autoprune.storing.patience import LONGEST_PAUSE

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    # By default a channel looks for a lost server less and less often, at last every two minutes.
    ("grpc.max_reconnect_backoff_ms", int(LONGEST_PAUSE * 1000)),
]


def open_proxy(host: str, port: int) -> GrpcStorageProxy:
    """A client of the proxy there; it connects when it is first used."""
    with quiet():
        return _Proxy(host=host, port=port)


class _Proxy(GrpcStorageProxy):
    def _setup(self) -> None:
        address = f"[{self._host}]" if ":" in self._host else self._host
        self._channel = grpc.insecure_channel(f"{address}:{self._port}", options=_OPTIONS)
        self._stub = api_pb2_grpc.StorageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._cache = GrpcClientCache(self._stub)
