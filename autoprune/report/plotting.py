"""The front as a picture for papers, drawn with matplotlib (the extra `plot`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.errors import ConfigError
from autoprune.report.content import Content
from autoprune.searching.front import Front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".pdf", ".png", ".svg")
INCHES = (5.0, 3.4)
DOTS_PER_INCH = 300


def check_picture(path: Path) -> None:
    """ConfigError for a kind of file that cannot be drawn, or where matplotlib is not installed."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"plot writes {', '.join(SUFFIXES)}, got '{path}'; choose another -o.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError("plot needs matplotlib; pip install 'autoprune[plot]'.") from error


def write_plot(content: Content, path: Path) -> None:
    """Draw accuracy against the share of the cost into a file of the kind that its suffix names."""
    check_picture(path)
    import matplotlib

    # The same study gives the same bytes; text in an SVG stays text.
    fixed: Any = {"svg.hashsalt": "autoprune", "svg.fonttype": "none"}
    dated = {".svg": "Date", ".pdf": "CreationDate"}.get(path.suffix.lower())
    with matplotlib.rc_context(fixed):
        try:
            draw(content).savefig(path, dpi=DOTS_PER_INCH, metadata={dated: None} if dated else None)
        except OSError as error:
            text = f"picture '{path}' cannot be written: {error.strerror}; choose another -o."
            raise ConfigError(text) from error


def draw(content: Content) -> Figure:
    """All trials, the front as steps, the dense network, and the budget on the cost."""
    from matplotlib.figure import Figure

    front, figure = content.front, Figure(figsize=INCHES, layout="constrained")
    axes: Any = figure.add_subplot()
    points = front.points
    axes.scatter(*_places(front, front.trials), s=12, color="#9aa7b6", label="trials", zorder=2)
    steps = {"drawstyle": "steps-post", "label": "front", "zorder": 3}
    axes.plot(*_places(front, points), "o-", ms=4, color="#1668b5", **steps)
    axes.plot([1.0], [front.dense.accuracy], "*", ms=12, color="#b3341f", label="dense", zorder=4)
    if content.bound is not None:
        axes.axvline(content.bound, ls="--", lw=1, color="#b3341f", label="budget")
    axes.set(xlabel=f"{content.cost}, share of the dense network", xlim=(0, None))
    axes.set_ylabel(f"validation {front.metric.name}", parse_math=False)
    # A name from the storage is no formula.
    axes.set_title(content.name, fontsize=10, parse_math=False)
    for axis in (axes.xaxis, axes.yaxis) if front.metric.share else (axes.xaxis,):
        axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.grid(color="#e3e7ec", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _places(front: Front, points: Any) -> tuple[list[float], list[float]]:
    return [front.share(point) for point in points], [point.accuracy for point in points]
