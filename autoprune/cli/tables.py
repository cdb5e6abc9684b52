"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

from autoprune.cli.output import printable, width
from autoprune.config import mask_url
from autoprune.errors import listed
from autoprune.searching.front import Dense, Front, Point
from autoprune.searching.metric_scale import MetricScale
from autoprune.searching.overview import Overview

if TYPE_CHECKING:
    from autoprune.survey import Survey


WIDE = 110
"""Characters a line that the whole table of a front needs."""
SECONDARY = ("before", "batch removal", "criterion")
"""Columns that a narrow terminal does without; --json has them all."""


def front_table(front: Front) -> Table:
    """The front, cheapest first, with the dense network as the last row."""
    title = f"{front.study}: {len(front)} points of {len(front.trials)} finished trials"
    metric, timed = front.metric, front.dense.latency_ms is not None
    narrow = _is_narrow()
    before = "" if narrow else "; 'before' is without reconstruction"
    caption = f"{printable(metric.name)} is of the validation split{before}."
    table = _table(title, "\n".join([caption, *_trust(front), *_too_slow(front)]))
    costs: tuple[str, ...] = ("MACs", "of dense", "params", "of dense")
    names = ("trial", printable(metric.name), "before", *costs, "batch removal", "criterion")
    names = (*names, *(("ms", "spread", "predicted") if timed else ()))
    rows = [[*_cells(point, metric), *(_latency(point) if timed else ())] for point in front]
    dense = front.dense
    costs = (f"{dense.macs:,}", "100 %", f"{dense.params:,}", "100 %")
    last = ("dense", metric.shown(dense.accuracy), "", *costs, "", "")
    rows.append([*last, *(_latency(dense) if timed else ())])
    shown = [i for i, name in enumerate(names) if not (narrow and name in SECONDARY)]
    for i in shown:
        side: Literal["left", "right"] = "left" if names[i] == "criterion" else "right"
        table.add_column(Text(names[i]), justify=side, no_wrap=True)
    for row in rows:
        if row is rows[-1]:
            table.add_section()
        table.add_row(*(row[i] for i in shown))
    return table


def _is_narrow() -> bool:
    return width() < WIDE


def _latency(of: Dense | Point) -> list[str]:
    names = ("latency_ms", "latency_spread_ms", "latency_predicted_ms")
    return ["" if (ms := getattr(of, name, None)) is None else f"{ms:.2f}" for name in names]


def _too_slow(front: Front) -> list[str]:
    if not (slow := front.too_slow):
        return []
    bound = front.latency_bound
    return [f"{len(slow)} trials were measured above the budget of {bound:g} ms and are not on the front."]


def _trust(front: Front) -> list[str]:
    """How far the proxies can be trusted, a line each."""
    metric = printable(front.metric.name)
    return [
        f"Proxy '{name.replace('_', ' ')}' ranks like the {metric} at equal MACs: {found.correlation:.2f} "
        f"({found.low:.2f} to {found.high:.2f}, {found.trials} trials)."
        for name, found in front.fidelities.items()
    ]


def _cells(point: Point, metric: MetricScale) -> list[str | Text]:
    return [
        str(point.trial),
        metric.shown(point.accuracy),
        "" if (before := point.accuracy_before_reconstruction) is None else metric.shown(before),
        f"{point.macs:,}",
        f"{point.macs_ratio:.1%}",
        f"{point.params:,}",
        f"{point.params_ratio:.1%}",
        str(point.batch_removal),
        Text(point.criterion),
    ]


def studies_table(storage: str, overviews: Sequence[Overview]) -> Table:
    """All studies of a storage and how far they are."""
    caption = (
        "Waiting: candidates that are queued, no worker has begun them. "
        "Best: the most accurate trial with at most half of the MACs, else of all."
    )
    table = _table(f"{len(overviews)} studies in {mask_url(storage)}", caption)
    table.add_column("study", overflow="fold")
    counts = ("finished", "running", "waiting", "failed", "workers")
    for name in (*counts, "best", "of MACs", "dense"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("last activity", no_wrap=True)
    if not all(study.made_by_autoprune for study in overviews):
        table.add_column("remark")
    for study in overviews:
        remark = "" if study.made_by_autoprune else "not made by autoprune, or not begun"
        table.add_row(Text(printable(study.study)), *_progress(study), *([remark] if remark else []))
    return table


def _progress(study: Overview) -> list[str]:
    lost = f" ({study.lost} lost)" if study.lost else ""
    counts = [str(study.finished), str(study.running), str(study.waiting), f"{study.failed}{lost}"]
    best, dense = study.best, study.dense_accuracy
    measured = ["", ""] if best is None else [study.metric.shown(best.accuracy), f"{best.macs_ratio:.1%}"]
    return [
        *counts,
        str(len(study.workers)),
        *measured,
        "" if dense is None else study.metric.shown(dense),
        study.to_json()["last_activity"] or "",
    ]


def groups_table(survey: Survey) -> Table:
    """Groups whose channels can go, in the order of the network."""
    # They bring PyTorch along, which takes seconds; the other tables need none of it.
    from autoprune.graph import Role
    from autoprune.survey import owners

    table = _table(f"{len(survey.graph.groups)} prunable channel groups", _reachable(survey))
    for name in ("group", "width", "producers", "consumers", "members"):
        table.add_column(name, justify="right" if name in ("width", "members") else "left", overflow="fold")
    for group in survey.graph.groups:
        modules = [Text(listed(owners(group, role))) for role in (Role.PRODUCER, Role.CONSUMER)]
        table.add_row(Text(group.name), f"{group.width:,}", *modules, str(len(group.members)))
    return table


def frozen_table(survey: Survey) -> Table:
    """Groups that stay dense, and why."""
    table = _table(f"{len(survey.graph.frozen)} frozen channel groups", None)
    for name in ("group", "width", "reason"):
        table.add_column(name, justify="right" if name == "width" else "left", overflow="fold")
    for frozen in survey.graph.frozen:
        table.add_row(Text(frozen.name), f"{frozen.width:,}", Text(frozen.reason))
    return table


def _reachable(survey: Survey) -> str:
    macs, params = survey.least_macs / max(survey.macs, 1), survey.least_params / max(survey.params, 1)
    return (
        f"Dense: {survey.macs:,} MACs, {survey.params:,} parameters. Least reachable: {macs:.1%} of MACs, "
        f"{params:.1%} of parameters. Sliced equals masked within {survey.check.relative_error:.1e}."
    )


def _table(title: str, caption: str | None) -> Table:
    return Table(
        title=Text(title), caption=None if caption is None else Text(caption), caption_justify="left"
    )
