"""`autoprune explain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.choosing import By, Ranking, choose, requests
from autoprune.cli.options import Device, Json, LatencyMs, Macs, Params, Quiet, Storage, Study, read_study
from autoprune.cli.output import percent, print_json, print_tables, printable, working
from autoprune.cli.progress import make_progress

if TYPE_CHECKING:
    from rich.table import Table

    from autoprune.explaining import ExplainedGroup, Explanation
    from autoprune.searching.metric_scale import MetricScale

Trial = Annotated[int | None, typer.Option(metavar="N", help="This trial, as 'autoprune front' numbers it.")]
Stored = Annotated[
    bool,
    typer.Option("--stored", help="Read the storage alone: without the model, and without what was saved."),
]
SPANS = 6
"""Runs of removed channels that a table lists; --json has all."""


def explain(
    study: Study,
    trial: Trial = None,
    macs: Macs = None,
    params: Params = None,
    latency_ms: LatencyMs = None,
    by: By = Ranking.ACCURACY,
    stored: Stored = False,
    storage: Storage = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show per channel group what a network lost: channels, their cost in the proxy, what it saved.

    Which network: a --trial, or the most accurate one within --macs, --params and --latency-ms. The proxy
    is the output error that the search expected of the group pruned alone, and its share of the sum over all
    groups. What was saved adds up to the network's: a layer between two pruned groups counts half for each.
    It needs the study's model; with --stored the storage is enough.

    Example: autoprune explain studies/digits.toml --macs 0.5
    """
    from autoprune.explaining import explain
    from autoprune.report.content import read_content
    from autoprune.session import Session
    from autoprune.storing.artifacts import open_artifacts
    from autoprune.storing.storages import open_storage

    config = read_study(study, storage=storage)
    given = {"macs": macs, "params": params, "latency_ms": latency_ms}
    (bounds,) = requests({name: None if v is None else [v] for name, v in given.items()}, trial).values()
    content = read_content(config.storage, config.name, open_artifacts(config.artifacts, config.storage))
    point = choose(content.front, bounds, trial, by)
    cost = None
    if not stored:
        with working():
            # No trial is read or written, so a storage need not exist.
            session = Session.open(
                config,
                device=device,
                progress=make_progress(quiet),
                storage=open_storage(None),
                searches=False,
            )
            cost = session.engine.cost
    found = explain(content, point, cost)
    if json:
        print_json(found.to_json())
    else:
        print_tables(explained_table(found, content.front.metric))


def explained_table(found: Explanation, metric: MetricScale) -> Table:
    """A row per group in network order, and what the whole network saved."""
    from rich.table import Table
    from rich.text import Text

    point = found.point
    title = (
        f"{found.study}, trial {point.trial}: {metric.name} {metric.shown(point.accuracy)} at "
        f"{point.macs_ratio:.1%} of the MACs"
    )
    caption = "Proxy: output error expected of the group pruned alone; share: of the sum over all groups."
    if all(group.proxy is None for group in found.groups):
        caption = "The storage holds no curves that can be read, so there is no proxy."
    table = Table(title=Text(printable(title)), caption=caption, caption_justify="left")
    table.add_column("group", overflow="fold")
    for name in ("width", "kept", "rate", "proxy", "share", "MACs saved", "params saved"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("channels removed", overflow="fold")
    for group in found.groups:
        table.add_row(Text(printable(group.name)), *_cells(group))
    table.add_section()
    table.add_row("all", *_total(found.groups), "")
    return table


def _cells(group: ExplainedGroup) -> list[str]:
    return [
        f"{group.width:,}",
        f"{group.kept:,}",
        percent(group.rate),
        "" if group.proxy is None else f"{group.proxy:.3g}",
        "" if group.share is None else f"{group.share:.0%}",
        _count(group.macs_saved),
        _count(group.params_saved),
        spans(group.removed),
    ]


def _total(groups: Sequence[ExplainedGroup]) -> list[str]:
    width, kept = sum(group.width for group in groups), sum(group.kept for group in groups)
    proxies = [group.proxy for group in groups if group.proxy is not None]
    macs = [group.macs_saved for group in groups if group.macs_saved is not None]
    params = [group.params_saved for group in groups if group.params_saved is not None]
    return [
        f"{width:,}",
        f"{kept:,}",
        percent(1 - kept / width),
        f"{sum(proxies):.3g}" if proxies else "",
        "100%" if sum(proxies) > 0 else "",
        _count(sum(macs)) if macs else "",
        _count(sum(params)) if params else "",
    ]


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def spans(channels: Sequence[int], most: int = SPANS) -> str:
    """ "0, 3-5, 9"; of many runs the first ones and how many channels follow."""
    runs: list[list[int]] = []
    for channel in channels:
        if runs and channel == runs[-1][-1] + 1:
            runs[-1].append(channel)
        else:
            runs.append([channel])
    shown = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:most])
    left = sum(map(len, runs[most:]))
    return f"{shown} and {left} more" if left else shown
