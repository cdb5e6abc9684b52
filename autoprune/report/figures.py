"""Figures as plotly.js reads them: plain dictionaries, with colours by role (`--accent`), not by value.

The page puts in the colours of its theme. Labels are plotly's own small HTML, so names are escaped here.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from autoprune.searching.front import Point
from autoprune.searching.metric_scale import MetricScale

Figure = dict[str, Any]

NAME = 26
"""Letters of a group's name on an axis; the middle of a longer one is left out."""


def figure(data: list[dict[str, Any]], x: str, y: str, **layout: Any) -> Figure:
    """Traces with axes titled `x` and `y`; further keys go into the layout, `xaxis` and `yaxis` on top."""
    axes = {
        "xaxis": {**_axis(x), **layout.pop("xaxis", {})},
        "yaxis": {**_axis(y), **layout.pop("yaxis", {})},
    }
    base = {
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "--none",
        "plot_bgcolor": "--none",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "--text"},
        "hoverlabel": {
            "align": "left",
            "bgcolor": "--panel",
            "bordercolor": "--line",
            "font": {"color": "--text"},
        },
        "showlegend": False,
    }
    return {"data": data, "layout": {**base, **axes, **layout}}


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "standoff": 8},
        "automargin": True,
        "gridcolor": "--line",
        "linecolor": "--line",
        "zeroline": False,
    }


def plain(name: object, most: int = 80) -> str:
    """A name as a plotly label: no markup, no formula, and no longer than `most` letters."""
    letters = "".join(letter if letter.isprintable() else " " for letter in str(name))
    if len(letters) > most:
        half = (most - 1) // 2
        letters = f"{letters[:half]}…{letters[-half:]}"
    return html.escape(letters, quote=False).replace("$", "&#36;")


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def shares(metric: MetricScale) -> dict[str, Any]:
    """Axis of a metric: in percent where it is a share."""
    return {"tickformat": ".0%"} if metric.share else {}


def hover_value(metric: MetricScale) -> str:
    """The metric at the pointer, as plotly fills it in."""
    return f"{plain(metric.name, NAME)} %{{y:{'.2%' if metric.share else '.4~g'}}}"


def rates_summary(point: Point) -> str:
    """ "0 % to 94 %, median 44 %; most: layer1.0 (94 %)"."""
    if not point.rates:
        return "no groups"
    rates = sorted(point.rates.values())
    name, most = max(point.rates.items(), key=lambda item: item[1])
    middle = rates[len(rates) // 2]
    return f"{rates[0]:.0%} to {rates[-1]:.0%}, median {middle:.0%}; most: {plain(name, NAME)} ({most:.0%})"


def scale(title: str) -> dict[str, Any]:
    """A colour bar above the figure, for shares from 0 to 1."""
    return {
        "orientation": "h",
        "y": 1.0,
        "yanchor": "bottom",
        "x": 0.5,
        "len": 0.6,
        "thickness": 10,
        "tickformat": ".0%",
        "tickvals": [0, 0.5, 1],
        "tickangle": 0,
        "outlinewidth": 0,
        "title": {"text": title, "side": "top"},
    }


def sweep(count: int) -> list[str]:
    """Colours in order, readable on light and dark."""
    return [f"hsl({round(215 - 205 * place / max(count - 1, 1))},65%,52%)" for place in range(count)]


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the places 0 to count - 1, evenly, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(step * (count - 1) / (most - 1)) for step in range(most)]


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis where the values are positive and span more than a factor of 30."""
    if values and min(values) > 0 and max(values) / min(values) > 30:
        return {"type": "log", "dtick": 1, "exponentformat": "power"}
    return {}
