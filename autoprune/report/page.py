"""The report: one HTML file with everything in it. It asks no network for anything, and may not.

A content security policy allows only the scripts that are written here, by their digests: even a name that
slipped through the escaping could not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from autoprune.errors import ConfigError
from autoprune.report.content import Content, read_content
from autoprune.report.figures import Figure
from autoprune.report.markup import Markup, embedded_json, tag
from autoprune.report.parts import make_header, make_parts
from autoprune.searching.front import Point, finite
from autoprune.storing.artifacts import Artifacts


def write_report(
    storage: str,
    name: str,
    path: str | Path,
    *,
    artifacts: Artifacts | None = None,
    study_file: str = "STUDY.toml",
    data: Mapping[str, Any] | None = None,
) -> Content:
    """Write the report of a stored study, in place of what the file held; what it tells.

    `study_file` stands in the commands that the page shows, `data` says where images come from. Raises
    StudyError where the study cannot be read, ConfigError where the file cannot be written.
    """
    content = read_content(storage, name, artifacts)
    page = make_page(content, study_file=study_file, data=data)
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        text = f"report '{path}' cannot be written: {error.strerror}; choose another -o."
        raise ConfigError(text) from error
    return content


def make_page(
    content: Content, *, study_file: str = "STUDY.toml", data: Mapping[str, Any] | None = None
) -> str:
    """The whole page as text."""
    figures, parts = make_parts(content, data or {})
    scripts = [_own("sketch.js"), _own("page.js")]
    plotly = _plotly()
    embedded = embedded_json(page_data(content, figures, study_file))
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_policy([*scripts, plotly])}">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", f"{content.name}: pruning report"),
        tag("style", Markup(_own("page.css"))),
    )
    body = tag(
        "body",
        tag("a", "Skip to the front as a table", href="#front-table", class_="skip"),
        make_header(content),
        tag("main", *parts),
        tag("script", embedded, type="application/json", id="data"),
        # Not a script yet: page.js makes it one.
        tag("script", Markup(plotly), type="text/plain", id="plotly"),
        *(tag("script", Markup(script)) for script in scripts),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def page_data(content: Content, figures: Mapping[str, Figure], study_file: str) -> dict[str, Any]:
    """What the script needs: figures, and every trial for the panel. Widths are in the order of `groups`."""
    front = content.front
    best = content.within(0.5) or next(iter(front.points), None)
    return {
        "study": content.name,
        "metric": {"name": front.metric.name, "share": front.metric.share},
        "study_file": study_file,
        "dense": vars(front.dense),
        "groups": [[name, width] for name, width in content.widths.items()],
        "trials": [_trial(point, content) for point in front.trials],
        "front": [point.trial for point in front.points],
        "selected": None if best is None else best.trial,
        "figures": dict(figures),
    }


def _trial(point: Point, content: Content) -> dict[str, Any]:
    return {
        "trial": point.trial,
        "share": finite(content.front.share(point)),
        "latency": finite(point.latency_ms),
        "latency_spread": finite(point.latency_spread_ms),
        "latency_predicted": finite(point.latency_predicted_ms),
        "macs": point.macs,
        "params": point.params,
        "bytes": point.bytes,
        "accuracy": point.accuracy,
        "before": point.accuracy_before_reconstruction,
        "error": finite(point.output_error),
        "criterion": point.criterion,
        "batch": point.batch_removal,
        "proxies": {name: finite(value) for name, value in point.proxies.items()},
        "widths": [point.widths.get(group, width) for group, width in content.widths.items()],
    }


def _policy(scripts: list[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _own(name: str) -> str:
    return resources.files("autoprune.report").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
