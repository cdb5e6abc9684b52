"""HTML in which text is escaped unless it says that it is markup: what a study says is never trusted."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any


class Markup(str):
    """HTML that stands as it is."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Any value as text, without control characters."""
    if isinstance(value, Markup):
        return value
    plain = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return Markup(html.escape(plain))


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """`tag("a", "x", href="#y")`; a trailing underscore is dropped and others become hyphens.

    An attribute that is True stands alone, one that is None or False is left out.
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    listed = "".join(
        f" {key}" if value is True else f' {key}="{text(value)}"'
        for key, value in given.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{listed}>{joined(children)}</{name}>")


def joined(parts: Iterable[object]) -> Markup:
    return Markup("".join(text(part) for part in parts))


def table(caption: str, head: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """A table that scrolls by itself where the page is narrow; the first cell of a row is its heading."""
    cells = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest)) for first, *rest in rows
    ]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", tag("span", caption)),
            tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))),
            tag("tbody", *cells),
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def embedded_json(value: Any) -> Markup:
    """JSON that can stand inside a script element: nothing in it ends the element or begins a comment."""
    written = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        written = written.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(written)
