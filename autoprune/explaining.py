"""A candidate group by group: what was removed, what it cost in the proxy, and what it saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.errors import StudyError
from autoprune.report.content import Content
from autoprune.searching.front import Point

if TYPE_CHECKING:
    from autoprune.graph import CostModel


@dataclass(frozen=True, kw_only=True)
class ExplainedGroup:
    """One channel group of a candidate.

    `removed` are indices of channels, sorted. `proxy` is the output error that the search expected of this
    group pruned alone, relative to the variance of the outputs (lower is better), and `share` its share of
    the sum over all groups; None where the study holds no curves. `macs_saved` and `params_saved` add up to
    what the candidate saved; None where the network was not at hand.
    """

    name: str
    width: int
    kept: int
    removed: tuple[int, ...]
    proxy: float | None
    share: float | None
    macs_saved: float | None
    params_saved: float | None

    @property
    def rate(self) -> float:
        """Pruning rate, 0..1."""
        return 1.0 - self.kept / self.width


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A finished trial, group by group in network order."""

    study: str
    metric: str
    point: Point
    groups: tuple[ExplainedGroup, ...]

    def to_json(self) -> dict[str, Any]:
        """What `explain --json` prints."""
        point = self.point.to_json()
        facts = {name: point[name] for name in ("trial", "accuracy", "macs", "macs_ratio", "params")}
        groups = [
            {**asdict(group), "removed": list(group.removed), "rate": group.rate} for group in self.groups
        ]
        return {"study": self.study, "metric": self.metric, **facts, "groups": groups}


def explain(content: Content, point: Point, cost: CostModel | None = None) -> Explanation:
    """The candidate of a finished trial, from what the study stores; with `cost`, also what each group saved.

    Raises StudyError where the network of `cost` is not the one that the study is about.
    """
    proxies = _proxies(content, point)
    total = sum(proxies.values())
    saved = {} if cost is None else savings(cost, content.widths, point.widths)
    return Explanation(
        study=content.name,
        metric=content.front.metric.name,
        point=point,
        groups=tuple(
            ExplainedGroup(
                name=name,
                width=width,
                kept=point.widths.get(name, width),
                removed=_removed(point, name, width),
                proxy=proxies.get(name),
                share=proxies[name] / total if name in proxies and total > 0 else None,
                macs_saved=saved[name][0] if name in saved else None,
                params_saved=saved[name][1] if name in saved else None,
            )
            for name, width in content.widths.items()
        ),
    )


def savings(
    cost: CostModel, dense: Mapping[str, int], widths: Mapping[str, int]
) -> dict[str, tuple[float, float]]:
    """MACs and parameters that each group saved; they add up to what the candidate saved.

    A layer between two pruned groups costs their product. Half of what both save together is given to each:
    the mean of what a group saves when it is pruned first and when it is pruned last. That is the group's
    Shapley value, as no more than two groups ever meet in one product.
    """
    if set(cost.names) != set(dense):
        raise StudyError(
            "the network has other channel groups than the study; use the model that it was made for."
        )
    full = np.array([dense[name] for name in cost.names])
    kept = np.array([widths.get(name, dense[name]) for name in cost.names])
    chosen = np.eye(len(full), dtype=bool)
    alone, last = np.where(chosen, kept, full), np.where(chosen, full, kept)
    found = cost.evaluate(np.concatenate([full[None], alone, kept[None], last]))
    values = np.stack([found.macs, found.params], axis=1)
    none, one, every, but_one = np.split(values, [1, len(full) + 1, len(full) + 2])
    means = ((none - one) + (but_one - every)) / 2
    return {name: (float(a), float(b)) for name, (a, b) in zip(cost.names, means, strict=True)}


def _proxies(content: Content, point: Point) -> dict[str, float]:
    curves = {} if content.profile is None else content.profile.output_errors.get(point.batch_removal, {})
    return {
        name: float(curve[point.widths[name]])
        for name, curve in curves.items()
        if name in point.widths and np.isfinite(curve[point.widths[name]])
    }


def _removed(point: Point, name: str, width: int) -> tuple[int, ...]:
    if name not in point.kept:
        return ()
    stays = set(point.kept[name].tolist())
    return tuple(channel for channel in range(width) if channel not in stays)
