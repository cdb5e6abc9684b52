"""Workers as tasks of a Dask cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from autoprune.errors import ConfigError
from autoprune.working.division import threads_each
from autoprune.working.place import Place, imported

_SECONDS = 30
"""To reach the scheduler, and for its workers to be there."""


@contextmanager
def on_dask(workers: int, address: str | None, device: str | None) -> Iterator[Place]:
    """A Dask cluster, or one of this machine without an address. Dask itself replaces workers that die."""
    dask = imported("distributed", "dask")
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with _dask_client(dask, workers, address) as client:
        yield Place(
            options={"backend": "dask", "client": client},
            deaths=(dask.KilledWorker,),
            device=device,
            threads=threads_each(workers) if address is None else None,
        )


@contextmanager
def _dask_client(dask: Any, workers: int, address: str | None) -> Iterator[Any]:
    if address is not None:
        with _connected(dask.Client, address) as client:
            _check_dask(client, workers, address)
            yield client
        return
    # joblib computes in this process where a cluster has a single core: hence at least two.
    count, quiet = max(2, workers), logging.ERROR
    with (
        dask.LocalCluster(
            n_workers=count, threads_per_worker=1, dashboard_address=None, silence_logs=quiet
        ) as cluster,
        dask.Client(cluster) as client,
    ):
        yield client


def _connected(client: Any, address: str) -> Any:
    try:
        return client(address, timeout=_SECONDS)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at '{address}' ({type(error).__name__}); start one with 'dask "
            "scheduler', or leave --scheduler out for a cluster of this machine."
        ) from error


def _check_dask(client: Any, workers: int, address: str) -> None:
    with suppress(TimeoutError):
        client.wait_for_workers(workers, timeout=_SECONDS)
    cores = client.ncores()
    if len(cores) < workers:
        raise ConfigError(
            f"the Dask cluster at '{address}' has {len(cores)} worker processes, but --workers wants "
            f"{workers}; start 'dask worker {address} --nworkers {workers} --nthreads 1', or ask for fewer."
        )
    if sum(cores.values()) < 2:
        raise ConfigError(
            f"the Dask cluster at '{address}' has one core, and joblib needs two to use it; start another "
            "worker, or leave --backend out."
        )
