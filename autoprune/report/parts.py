"""What stands on the page in which order: of every part its figures, or what is said where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from autoprune.report import further_figures, sections
from autoprune.report.content import Content
from autoprune.report.figures import Figure
from autoprune.report.front_figure import front_figure
from autoprune.report.markup import Markup, tag

TITLES = {
    "front": "Front",
    "rates": "Pruning rates",
    "curves": "Sensitivity",
    "proxies": "Proxies",
    "progress": "Progress",
    "frozen": "Frozen channels",
    "configuration": "Configuration",
}


def make_header(content: Content) -> Markup:
    links = [tag("a", title, href=f"#{name}") for name, title in TITLES.items()]
    made = f"Written {datetime.now():%Y-%m-%d %H:%M} by autoprune from the study's storage."
    return tag(
        "header",
        tag("div", tag("h1", content.name), tag("button", "Dark", type="button", id="theme"), class_="title"),
        tag("p", made, class_="quiet"),
        sections.glance(content),
        tag("nav", *links, aria_label="Sections"),
    )


def make_parts(content: Content, data: Mapping[str, Any]) -> tuple[dict[str, Figure], list[Markup]]:
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
        "first trial: blue groups are near the input, red ones near the output. Where a curve rises early, "
        "channels are kept."
    )
    rows = sections.curves_table(content.profile, groups)
    return _titled("curves", sections.drawing("curves", words), sections.folded("Curves as a table", rows))


def _proxies_part(content: Content, figures: dict[str, Figure]) -> Markup:
    if not content.proxies:
        return _titled("proxies", tag("p", "No finished trial holds a proxy."))
    known, drawn = content.front.fidelities, []
    for place, name in enumerate(content.proxies):
        figures[f"proxy-{place}"] = further_figures.proxy_figure(content, name)
        words = sections.fidelity_words(name, known.get(name), content.front.metric.name)
        drawn.append(sections.drawing(f"proxy-{place}", words))
    return _titled("proxies", tag("div", *drawn, class_="pair"))


def _progress_part(content: Content, figures: dict[str, Figure]) -> Markup:
    if not content.front.trials:
        return _titled("progress", tag("p", "No trial has finished yet."))
    figures["volume-trial"] = further_figures.volume_by_trial(content)
    figures["volume-time"] = further_figures.volume_by_time(content)
    last = (figures["volume-trial"]["data"][0]["y"] or [0.0])[-1]
    words = f"Hypervolume (the area below the front, up to the dense cost) by trial: {last:.4f} at the end."
    pair = [
        sections.drawing("volume-trial", words),
        sections.drawing("volume-time", "The same over the time of the search, pauses included."),
    ]
    return _titled("progress", tag("div", *pair, class_="pair"))
