"""The front as documents that anybody can open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from autoprune.searching.front import Dense, Front, Point
from autoprune.searching.metric_scale import MetricScale


def as_json(front: Front) -> str:
    """What `autoprune front --json` prints."""
    return json.dumps(front.to_json(), indent=2, allow_nan=False) + "\n"


def as_markdown(front: Front) -> str:
    return f"# Front of {escaped(front.study)}\n\n{front_table(front)}"


DOCUMENTS: Mapping[str, Callable[[Front], str]] = {"front.json": as_json, "front.md": as_markdown}
"""Name of a document -> what writes it. A further one needs no more than its line here."""


def front_table(front: Front) -> str:
    """A Markdown table, cheapest first, with the dense network as the last row."""
    metric, dense, timed = front.metric, front.dense, front.dense.latency_ms is not None
    costs = ("MACs", "of dense", "parameters", "of dense", "bytes")
    head = ("trial", escaped(metric.name), *costs, *(("ms", "spread") if timed else ()))
    last = ("dense", metric.shown(dense.accuracy), _count(dense.macs), "100 %", _count(dense.params), "100 %")
    cells = [_cells(point, metric) + _times(point, timed) for point in front]
    rows = [head, ("---:",) * len(head), *cells, (*last, _count(dense.bytes), *_times(dense, timed))]
    return "".join(_row(row) for row in rows)


def escaped(text: str) -> str:
    """Text in which nothing is markup: names come from the storage."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#~&$" else letter for letter in plain)


def _cells(point: Point, metric: MetricScale) -> tuple[str, ...]:
    return (
        str(point.trial),
        metric.shown(point.accuracy),
        _count(point.macs),
        f"{point.macs_ratio:.1%}",
        _count(point.params),
        f"{point.params_ratio:.1%}",
        _count(point.bytes),
    )


def _times(of: Point | Dense, timed: bool) -> tuple[str, ...]:
    return (f"{of.latency_ms or 0.0:.2f}", f"{of.latency_spread_ms or 0.0:.2f}") if timed else ()


def _count(number: int) -> str:
    return f"{number:,}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
