"""Rule 1: for every group, the sliced network computes what the masked network computes.

A group that fails is left dense and named, so nothing is silently wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

from torch import nn

from autoprune.graph.bench import Bench, Difference
from autoprune.graph.discover import find_groups
from autoprune.graph.groups import ChannelGraph, FrozenGroup


@dataclass(frozen=True)
class CheckReport:
    """Outcome of rule 1. `failed` maps a group to what went wrong.

    `relative_error` is the greatest difference among what passed; `without_effect` names the groups
    whose removal did not move the output when checked alone, so that passing says nothing about them.
    """

    passed: tuple[str, ...]
    failed: Mapping[str, str]
    relative_error: float
    without_effect: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.failed


def check_groups(
    model: nn.Module,
    graph: ChannelGraph,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    exhaustive: bool = False,
    tolerance: float = 1e-9,
    seed: int = 0,
) -> CheckReport:
    """Prune random 40 % of the channels and compare masked with sliced outputs, relative to `tolerance`.

    All groups at once; if that fails, halves, to find which. With `exhaustive`, also every group alone
    (on a smaller image where the model accepts one). `model` is not changed.
    """
    full = _Checker(Bench(model, graph, args, kwargs or {}, seed=seed), tolerance)
    names = [group.name for group in graph.groups]

    @cache
    def small() -> _Checker:
        return _Checker(Bench(model, graph, args, kwargs or {}, shrink=True, seed=seed), tolerance)

    failed: dict[str, str] = {}
    if exhaustive:
        failed = {name: problem for name in names if (problem := small().problem([name])) is not None}
    without_effect = tuple(small().without_effect) if exhaustive else ()
    while left := [name for name in names if name not in failed]:
        problem = full.problem(left)
        if problem is None:
            break
        failed |= small().blame(left) or full.blame(left) or dict.fromkeys(left, problem)
    worst = max(full.worst, small().worst if exhaustive else 0.0)
    return CheckReport(tuple(left), failed, worst, without_effect)


def verified_graph(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    ignore: Sequence[str] = (),
    *,
    exhaustive: bool = False,
    tolerance: float = 1e-9,
) -> ChannelGraph:
    """Channel groups that passed rule 1; those that failed stand in `frozen` with what failed."""
    check = partial(check_groups, model, args=args, kwargs=kwargs, exhaustive=exhaustive, tolerance=tolerance)
    return checked(find_groups(model, args, kwargs, ignore), check)[0]


def checked(
    graph: ChannelGraph, check: Callable[[ChannelGraph], CheckReport]
) -> tuple[ChannelGraph, CheckReport]:
    """The graph without what fails `check`, which is rule 1 on a model, and the outcome.

    An integer of a module may be as large as what a group counts by chance, and mean something else: where
    groups fail, it is tried whether fewer do with the integers left alone that count them.
    """
    if not graph.groups:
        return graph, CheckReport((), {}, 0.0)
    report = check(graph)
    plain = _uncounted(graph, report.failed)
    if len(plain.attributes) < len(graph.attributes):
        again = check(plain)
        if len(again.failed) < len(report.failed):
            graph, report = plain, again
    return without(graph, report.failed), report


def _uncounted(graph: ChannelGraph, groups: Collection[str]) -> ChannelGraph:
    """The graph without the integers that count any of these groups."""
    left = [item for item in graph.attributes if not any(group in groups for group, _ in item.per_unit)]
    return replace(graph, attributes=tuple(left))


def without(graph: ChannelGraph, failed: Mapping[str, str]) -> ChannelGraph:
    """The graph with some groups moved to `frozen`, each with its reason."""
    frozen = [FrozenGroup(g.name, g.width, failed[g.name]) for g in graph.groups if g.name in failed]
    groups = tuple(group for group in graph.groups if group.name not in failed)
    widths = {group.name: group.width for group in graph.groups if group.name in failed}
    attributes = tuple(left for item in graph.attributes if (left := item.without(widths)).per_unit)
    return ChannelGraph(groups, (*graph.frozen, *frozen), graph.layers, attributes)


_LENIENCE = 1e3
"""With one channel left, activations leave the range that the norms expect, and rounding grows."""


class _Checker:
    """Judges sets of groups on one bench, and finds the groups to blame."""

    def __init__(self, bench: Bench, tolerance: float) -> None:
        self.bench = bench
        self.tolerance = max(tolerance, bench.tolerance_floor)
        self.worst = 0.0
        self.without_effect: list[str] = []

    def problem(self, names: list[str]) -> str | None:
        """Why pruning these groups together is wrong, or None; they are also tried down to one channel."""
        found = self.bench.difference(self.bench.random_kept(names))
        if found.relative_error > self.tolerance:
            return _reason(found)
        self.worst = max(self.worst, found.relative_error)
        narrow = self.bench.difference(self.bench.random_kept(names, removed=1.0))
        if narrow.relative_error > self.tolerance * _LENIENCE:
            return _reason(narrow)
        if len(names) == 1 and max(found.effect, narrow.effect) <= self.tolerance:
            self.without_effect += names
        return None

    def blame(self, names: list[str]) -> dict[str, str]:
        """Groups to blame for a set that fails together, at least one; none if it passes."""
        problem = self.problem(names)
        if problem is None:
            return {}
        if len(names) == 1:
            return {names[0]: problem}
        left, right = self._parted(names)
        return {**self.blame(left), **self.blame(right)} or self._blame_together(left, right)

    def _parted(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Attention heads, which fail for one cause in every layer, apart from the rest; else halves."""
        heads = [name for name in names if self.bench.graph[name].macs_per_unit]
        if heads and len(heads) < len(names):
            return [name for name in names if name not in heads], heads
        return names[: len(names) // 2], names[len(names) // 2 :]

    def _blame_together(self, good: list[str], others: list[str]) -> dict[str, str]:
        """Both sets pass alone but not together: add the others one by one to the good ones."""
        found: dict[str, str] = {}
        for name in others:
            problem = self.problem([*good, name])
            if problem is None:
                good = [*good, name]
            else:
                found[name] = problem
        return found


def _reason(found: Difference) -> str:
    if found.failure is not None:
        return f"rule 1: the sliced network fails: {found.failure}"
    return f"rule 1: sliced and masked outputs differ by {found.relative_error:.1e} of their size"
