"""Names of the attributes with which workers sign, watch, repeat and stop trials."""

from __future__ import annotations

# On a trial
WORKER = "worker"
"""Who runs it: host/process/token."""
INTENT = "intent/"
"""Prefix: who is about to take it from the queue, for a worker may die between taking and signing."""
PULSE = "pulse"
"""A number that changes while its worker lives, on storages without heartbeats of their own."""
LOST = "lost"
"""Why its worker is held dead; such a trial is queued again once."""
ERROR = "error"
"""Why it failed for good: it is not queued again."""
BROKEN = "broken"
"""Why its candidate cannot be measured, whoever tries: it is known, and neither finished nor queued again."""
WITHDRAWN = "withdrawn"
"""Why it was given up before it began: its candidate is evaluated elsewhere, or not needed."""
ORIGIN = "origin"
"""Where a queued candidate comes from, `warm/3` or `again/17`: of several trials the first one counts."""

# On a study
STOP = "autoprune.stop"
"""How often everybody was asked to stop; `autoprune.stop/RUN` is there once that run was."""
WARM_START = "autoprune.warm_start"
"""Number of candidates that were queued at the start, once all of them are."""
