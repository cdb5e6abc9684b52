"""The figures below the front: rates, curves, proxies, progress."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from autoprune.report.content import Content
from autoprune.report.figures import (
    NAME,
    Figure,
    figure,
    hover_value,
    log_axis,
    percent,
    plain,
    scale,
    shares,
    spread,
    sweep,
)
from autoprune.searching.front import Point, finite
from autoprune.searching.hypervolume import history
from autoprune.searching.profile import Profile

CURVE_POINTS = 65
PROXY_HOVER = "trial %{customdata[0]}<br>proxy %{customdata[1]:.3g}<br>METRIC<extra></extra>"
ROWS = 90
"""Groups that are all named beside the heat map; of more, some."""
COLUMNS = 6
DECADES = 1e4
"""Proxies below the largest divided by this stand at the edge; their true value is in the hover text."""
UNITS = ((3600.0, "hours"), (60.0, "minutes"), (0.0, "seconds"))


def rates_figure(content: Content) -> Figure:
    """Pruning rates of the front, groups from the input down, points from the cheapest."""
    points, groups = content.front.points, list(content.widths)
    # Numbered, so that no two names become the same label.
    rows = [f"{place + 1}. {plain(group)}" for place, group in enumerate(groups)]
    shares = [content.front.share(point) for point in points]
    pairs = zip(points, shares, strict=True)
    columns = [f"trial {point.trial}, {percent(share)} of the {content.cost}" for point, share in pairs]
    heat = {
        "type": "heatmap",
        "x": columns,
        "y": rows,
        "z": [[round(point.rates.get(group, 0.0), 3) for point in points] for group in groups],
        "zmin": 0,
        "zmax": 1,
        "hovertemplate": "%{y}<br>%{x}<br>pruning rate %{z:.1%}<extra></extra>",
        "colorscale": [[0, "--low"], [1, "--high"]],
        "colorbar": scale("pruning rate"),
        "xgap": 1 if len(points) < 80 else 0,
        "ygap": 1 if len(groups) < ROWS else 0,
    }
    named, marked = spread(len(groups), ROWS), spread(len(points), COLUMNS)
    return figure(
        [heat],
        f"share of the {content.cost}",
        "",
        xaxis={
            "type": "category",
            "tickvals": [columns[place] for place in marked],
            "tickangle": 0,
            "ticktext": [f"{shares[place]:.0%}" for place in marked],
            "showgrid": False,
        },
        yaxis={
            "type": "category",
            "tickvals": [rows[place] for place in named],
            "ticktext": [plain(groups[place], NAME) for place in named],
            "autorange": "reversed",
            "showgrid": False,
            "tickfont": {"size": 11},
        },
    )


def rates_height(content: Content) -> int:
    """Pixels in which the groups' names do not touch."""
    return 150 + 17 * max(4, min(len(content.widths), ROWS))


def curves_figure(profile: Profile, widths: Sequence[str]) -> Figure:
    """Output error over the pruning rate of each group, pruned alone, at the first batch removal size."""
    curves = next(iter(profile.output_errors.values()))
    data = []
    for group, colour in zip(widths, sweep(len(widths)), strict=True):
        curve = curves[group].tolist()
        width = len(curve) - 1
        kept = [width - place for place in spread(width + 1, CURVE_POINTS)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": plain(group),
                "x": [round(1 - k / width, 4) for k in kept],
                # A logarithm has no place for the dense network's zero.
                "y": [value if (value := finite(curve[k])) and value > 0 else None for k in kept],
                "line": {"width": 1.5, "color": colour},
                "hovertemplate": "%{fullData.name}<br>%{x:.0%} removed: error %{y:.3g}<extra></extra>",
            }
        )
    return figure(
        data,
        "pruning rate of the group alone",
        "output error, relative to the variance",
        xaxis={"tickformat": ".0%", "range": [0, 1]},
        yaxis={"type": "log", "dtick": 1, "exponentformat": "power"},
        hovermode="closest",
    )


def proxy_figure(content: Content, name: str) -> Figure:
    """One proxy against the measured accuracy, coloured by cost."""
    metric = content.front.metric
    points = [p for p in content.front.trials if math.isfinite(p.proxies.get(name, math.nan))]
    values = [point.proxies[name] for point in points]
    # Next to the dense network a proxy is zero but for rounding, which would squeeze all others together.
    shown = [max(value, max(values) / DECADES) for value in values] if min(values, default=0) > 0 else values
    marker = {
        "size": 8,
        "color": [content.front.share(point) for point in points],
        "cmin": 0,
        "cmax": 1,
        "colorscale": [[0, "--low"], [1, "--high"]],
        "colorbar": scale(f"{content.cost}, share of dense"),
        "line": {"width": 1, "color": "--muted"},
    }
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": shown,
        "y": [point.accuracy for point in points],
        "customdata": [[point.trial, value] for point, value in zip(points, values, strict=True)],
        "hovertemplate": PROXY_HOVER.replace("METRIC", hover_value(metric)),
        "marker": marker,
    }
    title = f"{plain(name.replace('_', ' '), 40)} (lower is better)"
    return figure(
        [trace],
        title,
        f"validation {plain(metric.name, NAME)}",
        xaxis=log_axis(shown),
        yaxis=shares(metric),
        hovermode="closest",
    )


def volume_by_trial(content: Content) -> Figure:
    trials = sorted(content.front.trials, key=lambda point: point.trial)
    volumes = _volumes(content, trials)
    return _volume([point.trial for point in trials], volumes, "trial")


def volume_by_time(content: Content) -> Figure:
    """Over the time since the first trial began, pauses included."""
    known = [point for point in content.front.trials if point.trial in content.seconds]
    known.sort(key=lambda point: content.seconds[point.trial])
    volumes = _volumes(content, known)
    last = content.seconds[known[-1].trial] if known else 0.0
    length, unit = next((length, unit) for length, unit in UNITS if last >= 2 * length)
    times = [content.seconds[point.trial] / (length or 1.0) for point in known]
    return _volume(times, volumes, f"{unit} since the first trial began")


def _volumes(content: Content, points: Sequence[Point]) -> list[float]:
    """Hypervolume after each point, up to the metric's floor; to the worst trial where it has none."""
    floor = content.front.metric.floor
    if floor is None:
        floor = min((point.accuracy for point in content.front.trials), default=0.0)
    front = content.front
    slow = {point.trial for point in front.too_slow}
    # What is on no front adds nothing.
    pairs = [(floor if p.trial in slow else p.accuracy, front.share(p)) for p in points]
    found: list[float] = history(pairs, accuracy=floor).tolist()
    return found


def _volume(x: list[Any], y: list[float], title: str) -> Figure:
    trace = {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": {"shape": "hv", "width": 2, "color": "--accent"},
        "hovertemplate": "%{x:.4~g}<br>hypervolume %{y:.4f}<extra></extra>",
    }
    return figure([trace], title, "hypervolume")
