"""Where workers run: joblib's backends for this machine, a Dask cluster and a Ray cluster.

Each is a context that starts what it needs and at its end stops it, along with workers still running here.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from autoprune.errors import ConfigError
from autoprune.working.division import gpu_share, threads_each

_CONNECT_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Place:
    """A started backend: joblib's `options`, and the errors that say that a worker died.

    `device` is what workers are told, `threads` are torch's (None: the cluster decides), `parent` is the
    process that they are children of.
    """

    options: Mapping[str, Any]
    deaths: tuple[type[BaseException], ...]
    device: str | None
    threads: int | None = None
    parent: int | None = None


Open = Callable[[int, "str | None", "str | None"], AbstractContextManager[Place]]
"""(workers, address of a cluster, device) -> the place while it is open."""


@contextmanager
def on_this_machine(workers: int, address: str | None, device: str | None) -> Iterator[Place]:
    """Processes of this machine; the CPUs are divided among them."""
    threads = threads_each(workers)
    options = {"backend": "loky", "inner_max_num_threads": threads}
    try:
        yield Place(
            options=options,
            deaths=(TerminatedWorkerError,),
            device=device,
            threads=threads,
            parent=os.getpid(),
        )
    finally:
        get_reusable_executor(max_workers=workers, reuse=True).shutdown(wait=True, kill_workers=True)


@contextmanager
def on_dask(workers: int, address: str | None, device: str | None) -> Iterator[Place]:
    """A Dask cluster, or one of this machine without an address. Dask itself replaces workers that die."""
    dask = _imported("distributed", "dask")
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
        return client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at '{address}' ({type(error).__name__}); start one with 'dask "
            "scheduler', or leave --scheduler out for a cluster of this machine."
        ) from error


def _check_dask(client: Any, workers: int, address: str) -> None:
    with suppress(TimeoutError):
        client.wait_for_workers(workers, timeout=_CONNECT_SECONDS)
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


@contextmanager
def on_ray(workers: int, address: str | None, device: str | None) -> Iterator[Place]:
    """A Ray cluster, or one of this machine without an address; a worker is an actor, with a GPU if any."""
    # A local Ray would report its use to its makers, and what joblib asks it after its end start another.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    ray = _imported("ray", "ray")
    _imported("ray.util.joblib", "ray").register_ray()
    # joblib computes in this process for a pool of one.
    pool = max(2, workers)
    _start_ray(ray, pool, address)
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        spread = device == "cuda" or (device is None and gpus > 1)
        share = gpu_share(pool, gpus) if spread else 0
        yield Place(
            options={"backend": "ray", "ray_remote_args": {"num_gpus": share}},
            deaths=(ray.exceptions.RayActorError,),
            device="cuda" if share else device,
            threads=threads_each(workers) if address is None else None,
        )
    finally:
        ray.shutdown()


def _start_ray(ray: Any, pool: int, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(address="local", num_cpus=pool, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster answers at '{address}' ({type(error).__name__}); start one with 'ray start "
            "--head', or leave --scheduler out for a cluster of this machine."
        ) from error
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if cpus < pool:
        ray.shutdown()
        raise ConfigError(
            f"the Ray cluster at '{address}' has {cpus} CPUs, but this needs {pool}; add nodes, or ask for "
            "fewer --workers (at least two CPUs are needed)."
        )


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"--backend {extra} needs {extra}, which is not installed: pip install 'autoprune[{extra}]'."
        ) from None


BACKENDS: Mapping[str, Open] = {"loky": on_this_machine, "dask": on_dask, "ray": on_ray}
