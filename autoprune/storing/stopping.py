"""Requests to stop, through the storage: every worker of a study sees them, wherever it runs."""

from __future__ import annotations

from typing import Any

from optuna import Study

from autoprune.storing.marks import STOP


def request_stop(study: Study, run: str | None = None) -> None:
    """Ask the workers of one run, or of all, to end after the trial they are at."""
    study.set_user_attr(STOP, {"count": _count(_last(study)) + 1, "run": run})


class StopWatch:
    """Whether somebody has asked this worker to stop since the watch was made."""

    def __init__(self, study: Study, run: str | None = None) -> None:
        self.study, self.run = study, run
        self._count = _count(_last(study))

    def asked(self) -> bool:
        last = _last(self.study)
        return _count(last) > self._count and last.get("run") in (None, self.run)


def _last(study: Study) -> dict[str, Any]:
    found = study.user_attrs.get(STOP)
    return found if isinstance(found, dict) else {}


def _count(request: dict[str, Any]) -> int:
    count = request.get("count", 0)
    return count if isinstance(count, int) else 0
