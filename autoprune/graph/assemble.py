"""Assemble channel groups: united labels are atoms; atoms with the same members form a group."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import pairwise

import numpy as np
import torch

from autoprune.graph.beside import find_attributes, macs_of_classes
from autoprune.graph.call import FORWARD
from autoprune.graph.groups import ChannelGraph, ChannelGroup, FrozenGroup, Member, Role
from autoprune.graph.labels import Classes
from autoprune.graph.patterns import holders
from autoprune.graph.trace import Attachment, Trace

_TIED = "all channels are tied together"


@dataclass(frozen=True)
class _Places:
    """Where atoms sit: `atom[i]` sits at index `position[i]` of attachment `member[i]`; sorted by atom."""

    atom: np.ndarray
    member: np.ndarray
    position: np.ndarray


def assemble(trace: Trace, ignore: Sequence[str] = ()) -> ChannelGraph:
    """The graph that the labels of a finished trace describe."""
    attachments = list(trace.attachments.values())
    _ignore(trace, attachments, ignore)
    classes = trace.ledger.classes()
    found: list[tuple[ChannelGroup, np.ndarray]] = []
    unusable: dict[int, str] = {}
    macs = macs_of_classes(trace, classes)
    for atoms, members in _candidates(attachments, classes):
        reason = _why_unusable(atoms, members, trace.aside_only)
        if reason is None:
            # Units that cost differently beside their layers could not be counted: they are alike.
            group = ChannelGroup(_name(members), len(atoms), tuple(members), int(macs[atoms[0]]))
            found.append((group, atoms))
        else:
            unusable.update(dict.fromkeys(atoms.tolist(), reason))
    order = {item.tensor: place for place, item in enumerate(attachments)}
    found.sort(key=lambda item: _first_place(item[0], order))
    groups = _unique([group for group, _ in found])
    attributes = find_attributes(trace, classes, groups, [atoms for _, atoms in found])
    frozen = _frozen(attachments, classes, unusable)
    frozen += [FrozenGroup(item.name or FORWARD, item.width, item.reason) for item in trace.dense_outputs]
    return ChannelGraph(tuple(groups), tuple(frozen), tuple(trace.known_layers()), tuple(attributes))


def _ignore(trace: Trace, attachments: list[Attachment], patterns: Sequence[str]) -> None:
    for item in attachments:
        names = holders(item.tensor)
        for pattern in patterns:
            if item.role is not Role.CONSUMER and any(fnmatchcase(name, pattern) for name in names):
                trace.ledger.freeze(item.vector, f"ignored by '{pattern}'")


def owner(tensor: str) -> str:
    """Module that holds a state tensor, from its name."""
    return tensor.rpartition(".")[0]


def _candidates(attachments: list[Attachment], classes: Classes) -> list[tuple[np.ndarray, list[Member]]]:
    """Free atoms by equal membership: their class numbers, shape (width,), and the members they share."""
    places = _places(attachments, classes)
    starts = np.flatnonzero(np.diff(places.atom, prepend=-1))
    alike: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for start, end in pairwise([*starts, len(places.atom)]):
        alike[places.member[start:end].tobytes()].append((int(start), int(end)))
    return [_gather(attachments, places, spans) for spans in alike.values()]


def _places(attachments: list[Attachment], classes: Classes) -> _Places:
    """Every index of every attached dimension that belongs to a free atom, sorted by atom, member, index."""
    atom = [classes.index[item.vector.numpy()] for item in attachments] or [np.zeros(0, dtype=np.int64)]
    member = [np.full(len(found), number) for number, found in enumerate(atom)]
    position = [np.arange(len(found)) for found in atom]
    table = np.stack([np.concatenate(column).astype(np.int64) for column in (atom, member, position)])
    table = table[:, classes.free[table[0]]]
    return _Places(*table[:, np.lexsort((table[2], table[1], table[0]))])


def _gather(
    attachments: list[Attachment], places: _Places, spans: list[tuple[int, int]]
) -> tuple[np.ndarray, list[Member]]:
    """Members of a group of atoms, channels in order of their first producer's first index."""
    rows = np.stack([places.position[start:end] for start, end in spans])
    numbers, first, count = np.unique(places.member[slice(*spans[0])], return_index=True, return_counts=True)
    roles = [attachments[number].role for number in numbers]
    leading = roles.index(Role.PRODUCER) if Role.PRODUCER in roles else 0
    order = np.argsort(rows[:, first[leading]], kind="stable")
    rows = rows[order]
    members = [
        Member(
            item.tensor,
            item.dim,
            item.role,
            torch.from_numpy(rows[:, start : start + many].copy()),
            item.further - {item.role},
        )
        for item, start, many in zip((attachments[n] for n in numbers), first, count, strict=True)
    ]
    atoms = np.array([places.atom[start] for start, _ in spans])[order]
    return atoms, members


def _why_unusable(
    atoms: np.ndarray, members: list[Member], aside_only: Collection[tuple[str, int]]
) -> str | None:
    roles = {role for member in members for role in member.roles}
    producers = [(member.tensor, member.dim) for member in members if Role.PRODUCER in member.roles]
    if not producers:
        return "not computed by a layer"
    if all(producer in aside_only for producer in producers):
        return "computed in training mode alone"
    if Role.CONSUMER not in roles:
        return "no layer reads these channels"
    return _TIED if len(atoms) == 1 else None


def _name(members: list[Member]) -> str:
    first = next(member for member in members if Role.PRODUCER in member.roles)
    return owner(first.tensor) or first.tensor


def _first_place(group: ChannelGroup, order: dict[str, int]) -> tuple[int, int]:
    first = group.of_role(Role.PRODUCER)[0]
    return order[first.tensor], int(first.positions.min())


def _unique(groups: list[ChannelGroup]) -> list[ChannelGroup]:
    """Groups of one producer get numbers: 'conv', 'conv#2', ..."""
    seen: Counter[str] = Counter()
    unique = []
    for group in groups:
        seen[group.name] += 1
        suffix = f"#{seen[group.name]}" if seen[group.name] > 1 else ""
        unique.append(replace(group, name=group.name + suffix))
    return unique


def _frozen(attachments: list[Attachment], classes: Classes, unusable: dict[int, str]) -> list[FrozenGroup]:
    """Per producing layer and reason, how many of its output channels stay dense."""
    counts: Counter[tuple[str, str]] = Counter()
    for item in attachments:
        if item.role is Role.PRODUCER and not item.tensor.endswith("bias"):
            for atom in classes.index[item.vector.numpy()].tolist():
                reason = (
                    classes.reasons[classes.frozen[atom]] if classes.frozen[atom] >= 0 else unusable.get(atom)
                )
                if reason is not None:
                    counts[owner(item.tensor) or item.tensor, reason] += 1
    return [FrozenGroup(name, width, reason) for (name, reason), width in counts.items()]
