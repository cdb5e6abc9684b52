"""The rooms stand in an order: nothing imports upward."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import autoprune

ROOT = Path(autoprune.__file__).parent


def room(parts: tuple[str, ...]) -> str:
    """A package, or a module that stands beside the packages."""
    return parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Rooms that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "autoprune":
            _, _, inside = (node.module or "").partition(".")
            found |= {inside.partition(".")[0]} if inside else {name.name for name in node.names}
    return found


def test_no_room_imports_another_in_a_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        own = room(path.relative_to(ROOT).parts)
        # The front door may name everything.
        if own != "__init__":
            rooms.setdefault(own, set()).update(imported(path) - {own})
    order = list(TopologicalSorter(rooms).static_order())
    assert order.index("graph") < order.index("calibration") < order.index("reconstruction")
    assert order.index("reconstruction") < order.index("searching") < order.index("cli")
