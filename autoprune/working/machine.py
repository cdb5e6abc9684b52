"""Workers as processes of this machine, by joblib's own backend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from autoprune.working.division import threads_each
from autoprune.working.place import Place


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
