"""Accuracy against cost: every trial, the front, the dense network, the budget, and what is selected."""

from __future__ import annotations

from typing import Any

from autoprune.report.content import Content
from autoprune.report.figures import NAME, Figure, figure, hover_value, plain, rates_summary, shares
from autoprune.searching.front import Dense, Front, Point
from autoprune.searching.metric_scale import MetricScale

HOVER = (
    "<b>trial %{customdata[0]}</b><br>METRIC, before reconstruction %{customdata[1]}<br>"
    "%{customdata[2]:,d} MACs (%{customdata[7]:.1%} of dense)<br>%{customdata[3]:,d} parameters<br>"
    "%{customdata[8]}criterion %{customdata[4]}, batch removal %{customdata[5]}<br>"
    "rates %{customdata[6]}<extra></extra>"
)


def front_figure(content: Content) -> Figure:
    """The last trace marks the selected point; the page fills it."""
    front, metric = content.front, content.front.metric
    points = front.points
    chosen = {point.trial for point in points}
    others = [point for point in front.trials if point.trial not in chosen]
    data = [
        _markers("other trials", front, others, {"size": 7, "color": "--muted", "opacity": 0.65}),
        {
            **_markers("front", front, points, {"size": 10, "color": "--accent"}),
            "mode": "lines+markers",
            # Between two points of the front, the cheaper one is the best there is.
            "line": {"shape": "hv", "width": 2, "color": "--accent"},
        },
        _dense(content),
        _selected(),
    ]
    # The same ranges as the sketch, which stands until plotly has been read.
    shown = [front.share(point) for point in front.trials]
    values = [front.dense.accuracy, *(point.accuracy for point in front.trials)]
    return figure(
        data,
        f"{content.cost}, share of the dense network",
        f"validation {plain(metric.name, NAME)}",
        # Margins that plotly finds for itself, and its legend, would cost a second drawing.
        xaxis={"tickformat": ".0%", "range": _range([0.0, 1.0, *shown]), "automargin": False},
        yaxis={**shares(metric), "range": _range(values), "automargin": False},
        margin={"l": 70, "r": 14, "t": 12, "b": 52},
        hovermode="closest",
        **_budget(content.bound),
    )


def _range(values: list[float]) -> list[float]:
    """All values, with room around them for the markers."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05
    return [low - room, high + room]


def _markers(name: str, front: Front, points: list[Point], marker: dict[str, Any]) -> dict[str, Any]:
    metric = front.metric
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [front.share(point) for point in points],
        "y": [point.accuracy for point in points],
        "customdata": [_hover(point, metric) for point in points],
        "hovertemplate": HOVER.replace("METRIC", hover_value(metric)),
        "marker": marker,
    }


def _hover(point: Point, metric: MetricScale) -> list[Any]:
    before = point.accuracy_before_reconstruction
    return [
        point.trial,
        "not measured" if before is None else metric.shown(before),
        point.macs,
        point.params,
        plain(point.criterion),
        point.batch_removal,
        rates_summary(point),
        point.macs_ratio,
        "" if point.latency_ms is None else f"{latency_words(point)}<br>",
    ]


def latency_words(point: Point | Dense) -> str:
    """The measured median with its spread."""
    return f"{point.latency_ms or 0.0:.2f} ms (spread {point.latency_spread_ms or 0.0:.2f})"


def _dense(content: Content) -> dict[str, Any]:
    dense, value = content.front.dense, hover_value(content.front.metric)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "dense network",
        "x": [1.0],
        "y": [dense.accuracy],
        "hovertemplate": f"<b>dense network</b><br>{value}<br>{dense.macs:,} MACs<extra></extra>",
        "marker": {"size": 15, "symbol": "star", "color": "--warm"},
    }


def _selected() -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "selected",
        "x": [],
        "y": [],
        "hoverinfo": "skip",
        "marker": {
            "size": 18,
            "symbol": "circle-open",
            "color": "--text",
            "line": {"width": 2.5, "color": "--text"},
        },
    }


def _budget(share: float | None) -> dict[str, Any]:
    if share is None:
        return {}
    line = {"type": "line", "x0": share, "x1": share, "yref": "paper", "y0": 0, "y1": 1}
    label = {
        "x": share,
        "yref": "paper",
        "y": 0,
        "xanchor": "left" if share < 0.6 else "right",
        "yanchor": "bottom",
        "showarrow": False,
        "text": f"budget {share:.0%}",
        "font": {"color": "--warm"},
    }
    return {
        "shapes": [{**line, "line": {"dash": "dash", "width": 1.5, "color": "--warm"}}],
        "annotations": [label],
    }
