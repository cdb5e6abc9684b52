"""The report: one HTML file with everything in it. It asks no network for anything, and may not.

A content security policy allows only the scripts that are written here, by their digests: even a name that
slipped through the escaping could not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from autoprune.errors import ConfigError
from autoprune.report import further_figures, sections
from autoprune.report.content import Content, read_content
from autoprune.report.figures import Figure, finite
from autoprune.report.front_figure import front_figure
from autoprune.report.markup import Markup, embedded_json, tag
from autoprune.searching.front import Point
from autoprune.storing.artifacts import Artifacts

TITLES = {
    "front": "Front",
    "rates": "Pruning rates",
    "curves": "Sensitivity",
    "proxies": "Proxies",
    "progress": "Progress",
    "frozen": "Frozen channels",
    "configuration": "Configuration",
}


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
    figures, parts = _parts(content, data or {})
    scripts = [_own("page.js"), _plotly()]
    embedded = embedded_json(page_data(content, figures, study_file))
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", f"{content.name}: pruning report"),
        tag("style", Markup(_own("page.css"))),
    )
    body = tag(
        "body",
        tag("a", "Skip to the front as a table", href="#front-table", class_="skip"),
        _header(content),
        tag("main", *parts),
        tag("script", embedded, type="application/json", id="data"),
        *(tag("script", Markup(script)) for script in scripts),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def page_data(content: Content, figures: Mapping[str, Figure], study_file: str) -> dict[str, Any]:
    """What the script needs: figures, and every trial for the panel. Widths are in the order of `groups`."""
    front = content.front
    best = content.within(0.5) or next(iter(front.points), None)
    return {
        "study": content.name,
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


def _header(content: Content) -> Markup:
    links = [tag("a", title, href=f"#{name}") for name, title in TITLES.items()]
    made = f"Written {datetime.now():%Y-%m-%d %H:%M} by autoprune from the study's storage."
    return tag(
        "header",
        tag("div", tag("h1", content.name), tag("button", "Dark", type="button", id="theme"), class_="title"),
        tag("p", made, class_="quiet"),
        sections.glance(content),
        tag("nav", *links, aria_label="Sections"),
    )


def _parts(content: Content, data: Mapping[str, Any]) -> tuple[dict[str, Figure], list[Markup]]:
    """Figures by name, and the sections that show them."""
    figures: dict[str, Figure] = {"front": front_figure(content)}
    parts = [_front_part(content)]
    if content.front.trials:
        figures["rates"] = further_figures.rates_figure(content)
        height = further_figures.rates_height(content)
        drawn = sections.drawing("rates", sections.rates_words(content), height)
        folded = sections.folded("Rates as a table", sections.rates_table(content))
        parts.append(_titled("rates", drawn, folded))
    parts.append(_curves_part(content, figures))
    parts.append(_proxies_part(content, figures))
    parts.append(_progress_part(content, figures))
    parts.append(_titled("frozen", sections.frozen_part(content.frozen)))
    parts.append(_titled("configuration", sections.configuration(content, data)))
    return figures, parts


def _titled(name: str, *children: object) -> Markup:
    return sections.section(name, TITLES[name], *children)


def _front_part(content: Content) -> Markup:
    hint = "Click a point, or choose one in the table below, to see its plan."
    return _titled(
        "front",
        tag("p", hint),
        sections.legend(content),
        tag(
            "div",
            sections.drawing("front", sections.front_words(content)),
            tag("aside", id="plan", aria_live="polite", aria_label="Plan of the selected point"),
            class_="beside",
        ),
        tag("div", sections.front_table(content), id="front-table", tabindex="-1"),
    )


def _curves_part(content: Content, figures: dict[str, Figure]) -> Markup:
    if content.profile is None:
        text = "The study's storage holds no sensitivity curves that can be read, so they are not shown."
        return _titled("curves", tag("p", text))
    groups = list(content.widths)
    figures["curves"] = further_figures.curves_figure(content.profile, groups)
    words = (
        f"What each of {len(groups)} groups costs when it alone is pruned, as the search saw it before its "
        "first trial: blue groups are near the input, red ones near the output. Steep curves are kept."
    )
    rows = sections.curves_table(content.profile, groups)
    return _titled("curves", sections.drawing("curves", words), sections.folded("Curves as a table", rows))


def _proxies_part(content: Content, figures: dict[str, Figure]) -> Markup:
    if not content.proxies:
        return _titled("proxies", tag("p", "No finished trial holds a proxy."))
    known, drawn = content.front.fidelities, []
    for place, name in enumerate(content.proxies):
        figures[f"proxy-{place}"] = further_figures.proxy_figure(content, name)
        drawn.append(sections.drawing(f"proxy-{place}", sections.fidelity_words(name, known.get(name))))
    return _titled("proxies", tag("div", *drawn, class_="pair"))


def _progress_part(content: Content, figures: dict[str, Figure]) -> Markup:
    if not content.front.trials:
        return _titled("progress", tag("p", "No trial has finished yet."))
    figures["volume-trial"] = further_figures.volume_by_trial(content)
    figures["volume-time"] = further_figures.volume_by_time(content)
    last = (figures["volume-trial"]["data"][0]["y"] or [0.0])[-1]
    words = f"Hypervolume (the area below the front, up to all MACs) by trial: {last:.4f} at the end."
    pair = [
        sections.drawing("volume-trial", words),
        sections.drawing("volume-time", "The same over the time of the search, pauses included."),
    ]
    return _titled("progress", tag("div", *pair, class_="pair"))


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
