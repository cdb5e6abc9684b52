"""Where workers run: joblib's backends for this machine, a Dask cluster and a Ray cluster.

Each is a context that starts what it needs and at its end stops it, along with workers still running here.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoprune.working.dask_cluster import on_dask
from autoprune.working.machine import on_this_machine
from autoprune.working.place import Open
from autoprune.working.ray_cluster import on_ray

BACKENDS: Mapping[str, Open] = {"loky": on_this_machine, "dask": on_dask, "ray": on_ray}

MODULES: Mapping[str, str] = {"dask": "distributed", "ray": "ray"}
"""What the extra of a backend's name installs."""
