"""Several workers on one study: processes of this machine, or of a Dask or Ray cluster, through joblib."""

from __future__ import annotations

from autoprune.working.crew import Crew
from autoprune.working.interruption import interruption

__all__ = ["Crew", "interruption"]
