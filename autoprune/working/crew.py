"""Several workers for one study: what they need is checked and made first, then they search."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from optuna import Study

from autoprune.config import StudyConfig, mask_url
from autoprune.errors import ConfigError, unknown_name
from autoprune.progress import Progress
from autoprune.searching.front import Front
from autoprune.searching.study import finished, front_of
from autoprune.session import Session
from autoprune.working.backends import BACKENDS, MODULES
from autoprune.working.division import device_for
from autoprune.working.place import missing
from autoprune.working.shift import Shift

Search = Callable[["float | None", Callable[[], bool]], Front]
"""(time of the end in seconds since the epoch, what is asked between trials whether to stop) -> front."""


@dataclass(frozen=True, kw_only=True)
class Crew:
    """`workers` processes on one study: `backend` says where, `scheduler` is the address of a cluster.

    Without an address Dask and Ray start a cluster on this machine.
    """

    config: StudyConfig
    workers: int
    backend: str = "loky"
    scheduler: str | None = None
    device: str | None = None

    @property
    def alone(self) -> bool:
        """A single worker here needs no process of its own."""
        return self.workers == 1 and self.backend == "loky"

    def check(self) -> None:
        """ConfigError for a backend that is not there, and for a storage that serves one process only."""
        if self.backend not in BACKENDS:
            raise ConfigError(unknown_name("backend", self.backend, BACKENDS))
        if find_spec(MODULES.get(self.backend, __name__)) is None:
            raise missing(self.backend)
        if self.scheduler is not None and self.backend == "loky":
            raise ConfigError("--scheduler is the address of a cluster; add --backend dask or --backend ray.")
        scheme, separator, _ = self.config.storage.partition("://")
        if separator and scheme.startswith("sqlite") and not self.alone:
            raise ConfigError(
                f"storage '{mask_url(self.config.storage)}': SQLite is for one process; use a journal (a "
                "path) for workers of one machine, or a server (postgresql://, mysql://, redis://) for any."
            )

    def prepare(self, progress: Progress) -> Search:
        """Make what all workers need (the study, weights trained on first use, curves); the search of it.

        The search continues the study to its number of trials. It raises errors of workers as they are, and
        StudyError when workers die again and again.
        """
        self.check()
        if self.alone:
            session = Session.open(self.config, device=self.device, progress=progress)
            session.prepare()
            return partial(_search_alone, session)
        devices = torch.cuda.device_count()
        # Only the cluster may have the devices.
        elsewhere = self.scheduler is not None and not devices
        device = None if elsewhere else device_for(self.device, 0, devices)
        # The session is dropped at once: workers need the memory.
        session = Session.open(self.config, device=device, progress=progress)
        study = session.prepare()
        return partial(self._search, study, progress, session.engine.stops)

    def _search(
        self,
        study: Study,
        progress: Progress,
        since: int | None,
        end: float | None,
        stop: Callable[[], bool],
    ) -> Front:
        total = self.config.search.trials
        if len(finished(study)) < total:
            orders = {"study": self._shared_config().model_dump(), "end": end, "folder": str(Path.cwd())}
            shift = Shift(study=study, orders=orders, total=total, progress=progress, stop=stop, since=since)
            shift.run(BACKENDS[self.backend], self.workers, self.scheduler, self.device)
        return front_of(study)

    def _shared_config(self) -> StudyConfig:
        """Files of the study by their full path: workers may have another working directory."""
        given = {"storage": self.config.storage, "artifacts": self.config.artifacts}
        paths = {k: str(Path(v).absolute()) for k, v in given.items() if v and "://" not in v}
        return self.config.model_copy(update=paths)


def _search_alone(session: Session, end: float | None, stop: Callable[[], bool]) -> Front:
    return session.search(timeout=None if end is None else max(0.0, end - time.time()), stop=stop)
