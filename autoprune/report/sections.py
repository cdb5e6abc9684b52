"""The parts of the page, each a heading, what it shows, and the same in words or a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from autoprune.report.content import Content
from autoprune.report.figures import percent, spread
from autoprune.report.front_figure import latency_words
from autoprune.report.markup import Markup, joined, table, tag
from autoprune.searching.fidelity import LEAST, SPAN, Fidelity
from autoprune.searching.front import Dense, Point
from autoprune.searching.metric_scale import MetricScale
from autoprune.searching.profile import Profile

TABLE_POINTS = 60
"""Points of the front that the table of rates lists; of more, some."""
SHARES = (0.75, 0.5, 0.25)
REMOVED = (0.25, 0.5, 0.75)


def section(name: str, title: str, *children: object) -> Markup:
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def drawing(name: str, summary: str, height: int | None = None) -> Markup:
    """The place where the page draws the figure of this name; `summary` says what there is to see."""
    style = None if height is None else f"height:{height}px"
    plot = tag("div", id=f"figure-{name}", class_="plot", role="img", aria_label=summary, style=style)
    return tag("figure", plot, tag("figcaption", summary))


def folded(title: str, *children: object) -> Markup:
    return tag("details", tag("summary", title), *children)


def glance(content: Content) -> Markup:
    """The dense network and the best within a few shares of its cost, as tiles."""
    dense, metric = content.front.dense, content.front.metric
    cost = f"{dense.macs:,} MACs" if dense.latency_ms is None else latency_words(dense)
    tiles = [("dense network", metric.shown(dense.accuracy), cost)]
    for share in SHARES:
        point = content.within(share)
        if point is not None:
            label = f"at most {share:.0%} of the {content.cost}"
            detail = f"{metric.change(point.accuracy - dense.accuracy)}, trial {point.trial}"
            tiles.append((label, metric.shown(point.accuracy), detail))
    items = [tag("li", tag("span", a), tag("strong", b), tag("span", c)) for a, b, c in tiles]
    return tag("ul", *items, class_="tiles")


def legend(content: Content) -> Markup:
    """What the marks of the first figure mean."""
    marks = {
        "front": "front",
        "other": "other trials",
        "dense": "dense network",
        "chosen": "shown in the plan",
    }
    if content.bound is not None:
        marks["budget"] = "budget"
    items = [
        tag("li", tag("i", class_=f"mark {mark}", aria_hidden="true"), name) for mark, name in marks.items()
    ]
    return tag("ul", *items, class_="legend")


def front_words(content: Content) -> str:
    front = content.front
    if not front.trials:
        return "No trial has finished yet."
    if not front.points:
        return f"All {len(front.trials):,} finished trials were measured above the budget of latency."
    first, last, metric = front.points[0], front.points[-1], front.metric
    cheapest = f"{percent(front.share(first))} of the {content.cost}"
    return (
        f"{len(front.trials):,} finished trials, {len(front)} of them on the front: from "
        f"{metric.shown(first.accuracy)} {metric.name} at {cheapest} to "
        f"{metric.shown(last.accuracy)} at {percent(front.share(last))}. The dense network has "
        f"{metric.shown(front.dense.accuracy)}. {budget_words(content.budget)}"
    )


def budget_words(budget: Mapping[str, float]) -> str:
    names = {"macs": "MACs", "params": "parameters", "bytes": "bytes", "latency_ms": "latency"}
    bounds = [f"{names[name]} at most {percent(share)} of dense" for name, share in budget.items()]
    return f"Budget: {', '.join(bounds)}." if bounds else "No budget was set."


def front_table(content: Content) -> Markup:
    """Every point has a button: the keyboard's way to what a click on the figure shows."""
    dense, metric = content.front.dense, content.front.metric
    timed = dense.latency_ms is not None
    costs_of = ("MACs", "of dense", "parameters", "of dense")
    head: tuple[str, ...] = ("trial", metric.name, "before", *costs_of, "batch", "criterion")
    rows: list[Sequence[object]] = [(*_front_row(p, metric), *_times(p, timed)) for p in content.front.points]
    costs = (f"{dense.macs:,}", "100 %", f"{dense.params:,}", "100 %")
    rows.append(("dense", metric.shown(dense.accuracy), "", *costs, "", "", *_times(dense, timed)))
    head = (*head, "latency") if timed else head
    caption = f"The front, cheapest first; 'before' is the {metric.name} without reconstruction"
    return table(caption, head, rows)


def _front_row(point: Point, metric: MetricScale) -> Sequence[object]:
    before = point.accuracy_before_reconstruction
    label = f"Show the plan of trial {point.trial}"
    return (
        tag("button", str(point.trial), type="button", data_trial=point.trial, aria_label=label),
        metric.shown(point.accuracy),
        "" if before is None else metric.shown(before),
        f"{point.macs:,}",
        percent(point.macs_ratio),
        f"{point.params:,}",
        percent(point.params_ratio),
        point.batch_removal,
        point.criterion,
    )


def _times(of: Point | Dense, timed: bool) -> tuple[str, ...]:
    return (latency_words(of),) if timed else ()


def rates_table(content: Content) -> Markup:
    front = content.front.points
    points = [front[place] for place in spread(len(front), TABLE_POINTS)]
    head = ["group", "width", *(f"trial {point.trial}" for point in points)]
    rows = [
        [group, width, *(f"{point.rates.get(group, 0.0):.0%}" for point in points)]
        for group, width in content.widths.items()
    ]
    return table("Pruning rate per group, cheapest point first", head, rows)


def rates_words(content: Content) -> str:
    """The groups that the front prunes most and least."""
    points = content.front.points
    if not points:
        return "No point is on the front."
    means = {
        group: sum(point.rates.get(group, 0.0) for point in points) / len(points) for group in content.widths
    }
    if not means:
        return "The network has no group that can be pruned."
    most, least = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    return (
        f"Pruning rate of {len(means)} groups (rows, in network order) at {len(points)} points of the front. "
        f"On average {most} is pruned most ({means[most]:.0%}) and {least} least ({means[least]:.0%})."
    )


def curves_table(profile: Profile, widths: Sequence[str]) -> Markup:
    curves = next(iter(profile.output_errors.values()))
    rows = []
    for group in widths:
        curve = curves[group]
        kept = [max(1, round((1 - share) * (len(curve) - 1))) for share in REMOVED]
        rows.append([group, len(curve) - 1, *(f"{curve[k]:.3g}" for k in kept)])
    head = ["group", "width", *(f"{share:.0%} removed" for share in REMOVED)]
    return table("Output error when the group alone is pruned", head, rows)


def fidelity_words(name: str, found: Fidelity | None, metric: str) -> str:
    shown = name.replace("_", " ")
    if found is None:
        return (
            f"Proxy '{shown}' against the measured {metric}. No correlation is given: it needs {LEAST} "
            f"trials within {SPAN:.0%} of the MACs."
        )
    return (
        f"Proxy '{shown}' against the measured {metric}: rank correlation {found.correlation:.2f} (95 % "
        f"interval {found.low:.2f} to {found.high:.2f}) among trials of nearly equal MACs, {found.trials} in "
        "all; 1 is best."
    )


def frozen_part(frozen: Sequence[Mapping[str, Any]] | None) -> Markup:
    if frozen is None:
        return tag(
            "p",
            "This study was made before studies said what is frozen; 'autoprune groups STUDY' lists it with "
            "the reasons.",
        )
    if not frozen:
        return tag("p", "Nothing: every channel that the network's layers share can go.")
    rows = [[entry.get("name", ""), entry.get("width", ""), entry.get("reason", "")] for entry in frozen]
    return table("Channels that stay dense", ("group", "width", "reason"), rows)


PRINTS = ("model", "data", "inputs", "labels", "history")
"""Fields of a study's identity that are hashes."""


def configuration(content: Content, data: Mapping[str, Any]) -> Markup:
    left_out = {"groups", *PRINTS}
    rows = [(name, shown(value)) for name, value in content.identity.items() if name not in left_out]
    places, versions = [(name, shown(value)) for name, value in data.items()], content.versions.items()
    prints = [(f"{n} fingerprint", content.identity[n]) for n in PRINTS if n in content.identity]
    return joined(
        [
            tag(
                "p",
                "Calibration images (unlabelled) give the second moments that order channels and restore "
                f"weights. Every {content.front.metric.name} on this page is of the validation split, which "
                "also chose the front: it flatters. The test split was not touched; 'autoprune evaluate' "
                "measures on it.",
            ),
            tag(
                "div",
                table("Search and reconstruction", ("setting", "value"), rows),
                table("Data and model", ("field", "value"), [*prints, *places]),
                table("Versions that began the study", ("package", "version"), versions),
                class_="trio",
            ),
        ]
    )


def shown(value: Any) -> str:
    """A setting in one line: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    if value in ({}, [], ()):
        return "none"
    return json.dumps(value, ensure_ascii=False, default=str)
