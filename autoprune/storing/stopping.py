"""Requests to stop, through the storage: every worker of a study sees them, wherever it runs."""

from __future__ import annotations

from optuna import Study

from autoprune.storing.marks import STOP


def request_stop(study: Study, run: str | None = None) -> None:
    """Ask the workers of one run, or of all, to end after the trial they are at."""
    if run is None:
        study.set_user_attr(STOP, stop_count(study) + 1)
    else:
        study.set_user_attr(f"{STOP}/{run}", True)


class StopRequests:
    """Whether this worker was asked to stop: its run at any time, or everybody since there were `since`
    requests, by default those there are when the watch is made."""

    def __init__(self, study: Study, run: str | None = None, since: int | None = None) -> None:
        self.study, self.run = study, run
        self._count = stop_count(study) if since is None else since

    def asked(self) -> bool:
        # A run is over when it stops, so a worker of it that is still starting has to hear it too.
        mine = self.run is not None and f"{STOP}/{self.run}" in self.study.user_attrs
        return mine or stop_count(self.study) > self._count


def stop_count(study: Study) -> int:
    """How many requests to all workers there have been."""
    count = study.user_attrs.get(STOP, 0)
    return count if isinstance(count, int) else 0
