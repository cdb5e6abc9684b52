"""Line and scatter plots as small SVG files, the same look for every comparison. Needs matplotlib.

`draw([Panel(title=..., x_label=..., y_label=..., series=[Series("name", x, y)])], path)`; a band over seeds:
`Series("name", x, mean, low=low, high=high)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito (2008): told apart by colour-blind readers too."""
MARKERS = "os^Dv<>"
SIZE = (5.6, 4.0)
"""Inches of one panel."""
STYLE = {
    # Text stays text, so that files are small and can be searched; ids do not change from run to run.
    "svg.fonttype": "none",
    "svg.hashsalt": "autoprune",
    "font.size": 10,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Series:
    """Points (x, y) under one name; `low` and `high` are the edges of a band around them.

    `style`: "line" joins marked points, "plain" unmarked ones, "steps" is a front (each value holds until
    the next x), "dots" is a scatter, "dashes" a line without marks, for limits and guides.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    style: Literal["line", "plain", "steps", "dots", "dashes"] = "line"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes. `log` makes both logarithmic, with the series' own values along x."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series] = field(default_factory=list)
    log: bool = False


def require() -> None:
    """SystemExit that says what to install, before anything long begins."""
    _matplotlib("matplotlib")


def draw(panels: Sequence[Panel], path: Path, title: str | None = None) -> None:
    """Write the panels, side by side, as one SVG file."""
    matplotlib, figures = _matplotlib("matplotlib"), _matplotlib("matplotlib.figure")
    with matplotlib.rc_context(STYLE):
        figure = figures.Figure(figsize=(SIZE[0] * len(panels), SIZE[1]), layout="constrained")
        rooms = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(rooms, panels, strict=True):
            _draw_panel(axes, panel)
        if title is not None:
            figure.suptitle(title)
        # Without a date the same numbers give the same file.
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_panel(axes: Any, panel: Panel) -> None:
    if panel.log:
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks = sorted({x for series in panel.series for x in series.x})
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    for number, series in enumerate(panel.series):
        _draw_series(axes, series, COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)])
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.series:
        axes.legend()


def _draw_series(axes: Any, series: Series, colour: str, marker: str) -> None:
    looks: dict[str, dict[str, Any]] = {
        "line": {"marker": marker, "markersize": 4},
        "plain": {},
        "steps": {"marker": marker, "markersize": 4, "drawstyle": "steps-post"},
        "dots": {"marker": marker, "markersize": 3, "linestyle": "none"},
        "dashes": {"linestyle": "--", "linewidth": 1},
    }
    axes.plot(series.x, series.y, color=colour, label=series.label, **looks[series.style])
    if series.low is not None and series.high is not None:
        axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.2, linewidth=0)


def _matplotlib(module: str) -> Any:
    # Only who draws needs it.
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"drawing needs matplotlib, and '{error.name}' is not installed: pip install matplotlib, "
            "or leave --plot out; the JSON has all numbers."
        ) from error
