"""Workers as actors of a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from autoprune.errors import ConfigError
from autoprune.working.division import gpu_share, threads_each
from autoprune.working.place import Place, imported

_SECONDS = 30
"""To reach the cluster."""


@contextmanager
def on_ray(workers: int, address: str | None, device: str | None) -> Iterator[Place]:
    """A Ray cluster, or one of this machine without an address; a worker is an actor, with a GPU if any."""
    # A local Ray would report its use to its makers, and what joblib asks it after its end start another.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    ray = imported("ray", "ray")
    imported("ray.util.joblib", "ray").register_ray()
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
        _knock(address)
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster lets this process in at '{address}' ({type(error).__name__}); start one "
            "with 'ray start --head', set RAY_AUTH_TOKEN here if it wants one, or leave --scheduler out."
        ) from error
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if cpus < pool:
        ray.shutdown()
        raise ConfigError(
            f"the Ray cluster at '{address}' has {cpus} CPUs, but this needs {pool}; add nodes, or ask for "
            "fewer --workers (at least two CPUs are needed)."
        )


def _knock(address: str) -> None:
    """Ray itself would try for minutes to reach a host that does not answer."""
    host, _, port = address.rpartition(":")
    if "/" not in host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_SECONDS).close()
