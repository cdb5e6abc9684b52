"""Where a Python run spends its time, by stages: a cProfile run whose functions are sorted into named stages.

Torch's operators are counted by name, wherever they are called; those without a stage of their own with the
work that calls them, else as operators between. Any other function belongs to the stage of its file; one
whose file is in none (the standard library) is shared out among the stages of its callers, by the time that
each caused. Operators written as signs (`a + b`, `a[i]`) are no calls to a profile: they count for the
function that they stand in. Time is what a thread computes: one that waits, for others or for the processor,
takes none. What the profile itself adds to every call is measured and taken off.
"""

from __future__ import annotations

import cProfile
import pstats
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

Function = tuple[str, int, str]
Shares = Mapping[str, float]

BETWEEN = "tensor operators between"
OPERATORS: Mapping[str, tuple[str, ...]] = {
    "convolutions and linear layers": ("conv1d", "conv2d", "conv3d", "linear>"),
    "batch norm": ("batch_norm>",),
    "Cholesky and solve": ("cholesky", "solve", "pinv"),
    "matrix products": ("matmul", "mm>"),
    "forward pass, the rest": ("_get_tracing_state",),
    BETWEEN: ("built-in method torch.", "_C._nn", "_C._linalg", "_C.TensorBase"),
}
"""Stage -> what the names of built-in functions contain."""

FILES: Mapping[str, tuple[str, ...]] = {
    "patch extraction": ("autoprune/calibration/columns",),
    "matrix products": ("autoprune/calibration/moments", "autoprune/calibration/accumulate"),
    "Cholesky and solve": ("autoprune/reconstruction/least_squares", "autoprune/linear_algebra"),
    "forward pass, the rest": ("torch/nn/", "autoprune/models/", "torchvision/models/", "timm/"),
    "taps and reconstruction": ("autoprune/calibration/", "autoprune/reconstruction/"),
    "slicing": ("autoprune/graph/slicing", "autoprune/graph/reslicing"),
    "evaluation": ("autoprune/searching/evaluator", "autoprune/searching/metrics", "searching/outputs"),
    "strategy proposals": (
        "autoprune/searching/strategies", "autoprune/searching/allocate", "autoprune/searching/knapsack",
        "autoprune/searching/space", "autoprune/searching/surrogate", "autoprune/searching/parameters",
        "autoprune/searching/profile", "autoprune/graph/cost", "sklearn/", "scipy/",
    ),
    "ask, tell and storage": (
        "optuna/", "sqlalchemy/", "autoprune/searching/study", "autoprune/searching/running",
        "autoprune/searching/front", "autoprune/searching/attributes",
    ),
}  # fmt: skip
"""Stage -> parts of the paths of its files; the first that fits counts."""

WORK = (
    "convolutions and linear layers", "batch norm", "forward pass, the rest", "patch extraction",
    "matrix products", "Cholesky and solve", "evaluation",
)  # fmt: skip
"""Stages that are forward passes and linear algebra, patches included."""
WAITING = ("'acquire' of '_thread", "'get' of '_queue")
"""What the names of functions that wait contain: they compute nothing, and one that still waits at the end is
closed by the clock of another thread."""
OTHER = "other"
_CALLS = 20_000
"""So many calls tell what one costs."""


def profiled(work: Callable[[], Any]) -> pstats.Stats:
    """The profile of one call, with the threads that begin in it."""
    profiles = [cProfile.Profile(time.thread_time)]

    def begin(*event: object) -> None:
        # The first event of a new thread; from here on the thread's own profile takes them.
        profiles.append(cProfile.Profile(time.thread_time))
        profiles[-1].enable()

    threading.setprofile(begin)
    try:
        profiles[0].runcall(work)
    finally:
        threading.setprofile(None)
    return pstats.Stats(*profiles)


def cost_of_a_call() -> float:
    """Seconds that a profile adds to every call that it sees."""

    def many() -> None:
        for _ in range(_CALLS):
            _nothing()

    start = time.thread_time()
    many()
    plain = time.thread_time() - start
    entries: Mapping[Function, Any] = profiled(many).stats  # type: ignore[attr-defined]
    return max(0.0, sum(own for _, _, own, _, _ in entries.values()) - plain) / _CALLS


def _nothing() -> None:
    return None


def by_stage(stats: pstats.Stats) -> dict[str, float]:
    """Seconds of each stage, most first."""
    cost = cost_of_a_call()
    entries: Mapping[Function, Any] = stats.stats  # type: ignore[attr-defined]
    known: dict[Function, Shares] = {}
    total: Counter[str] = Counter()
    for function, (_, calls, own, _, _) in entries.items():
        if any(part in function[2] for part in WAITING):
            continue
        for stage, share in _shares(function, entries, known).items():
            total[stage] += max(0.0, own - calls * cost) * share
    return dict(total.most_common())


def outside(times: Mapping[str, float], work: Collection[str] = (*WORK, BETWEEN)) -> float:
    """Share of the time that is neither a forward pass nor linear algebra, nor a tensor operator between."""
    return sum(value for stage, value in times.items() if stage not in work) / sum(times.values())


def stage_of(function: Function) -> str | None:
    """The stage that a function belongs to by its own name or file."""
    path, _, name = function
    if path == "~":
        return _first(OPERATORS, name)
    return _first(FILES, path.replace("\\", "/"))


def _first(table: Mapping[str, tuple[str, ...]], text: str) -> str | None:
    return next((stage for stage, parts in table.items() if any(part in text for part in parts)), None)


def _shares(function: Function, entries: Mapping[Function, Any], known: dict[Function, Shares]) -> Shares:
    if function not in known:
        stage = stage_of(function)
        # What calls itself through others adds nothing on the way round.
        known[function] = {} if stage in (None, BETWEEN) else {stage: 1.0}
        if not known[function]:
            known[function] = _from_callers(entries[function][4], entries, known) or {stage or OTHER: 1.0}
        if stage == BETWEEN:
            known[function] = _worked(known[function])
    return known[function]


def _worked(shares: Shares) -> Shares:
    """The shares of an operator on tensors: with the work that called it, or between."""
    found = Counter({stage: share for stage, share in shares.items() if stage in WORK})
    found[BETWEEN] += 1.0 - sum(found.values())
    return found


def _from_callers(
    callers: Mapping[Function, Any], entries: Mapping[Function, Any], known: dict[Function, Shares]
) -> Shares:
    total: Counter[str] = Counter()
    for caller, (_, _, _, cumulative) in callers.items():
        for stage, share in _shares(caller, entries, known).items():
            total[stage] += share * max(cumulative, 1e-9)
    whole = sum(total.values())
    return {stage: value / whole for stage, value in total.items()}
