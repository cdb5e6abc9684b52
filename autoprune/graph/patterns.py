"""Patterns (fnmatch) of module names, with which study files pick channel groups."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from autoprune.errors import ConfigError
from autoprune.graph.groups import ChannelGraph, ChannelGroup, Role


def check_patterns(option: str, patterns: Iterable[str], model: nn.Module) -> None:
    """ConfigError, with the nearest names, for a pattern that no module of the model matches."""
    names = [name for name, _ in model.named_modules() if name]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(_unmatched(option, pattern, names))


def caps_of(graph: ChannelGraph, caps: Mapping[str, float]) -> dict[str, float]:
    """Greatest pruning rate of every group, 0..1: the least cap whose pattern it matches, 1 without any.

    A pattern is held against the group's name and the modules that compute its channels, as `ignore` is.
    Raises ConfigError, with the nearest names, for a pattern that matches neither a group nor what is frozen.
    """
    names = {group.name: names_of(group) for group in graph.groups}
    known = {name for found in names.values() for name in found} | {frozen.name for frozen in graph.frozen}
    for pattern in caps:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ConfigError(_unmatched("caps", pattern, known))
    return {
        group: min((cap for p, cap in caps.items() if any(fnmatchcase(n, p) for n in found)), default=1.0)
        for group, found in names.items()
    }


def names_of(group: ChannelGroup) -> set[str]:
    """The group's own name, and the modules that compute its channels or hold something for each of them,
    with those that hold these."""
    tensors = [member.tensor for member in group.members if member.role is not Role.CONSUMER]
    return {group.name, *(name for tensor in tensors for name in holders(tensor))}


def holders(tensor: str) -> list[str]:
    """The modules that a tensor of the model's state lies in, the innermost first."""
    parts = tensor.split(".")[:-1]
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _unmatched(option: str, pattern: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(pattern.strip(".*?"), sorted(names), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "'autoprune groups' lists the names."
    return f"{option} '{pattern}' matches no module of the network; {hint}"
