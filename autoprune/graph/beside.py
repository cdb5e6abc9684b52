"""What a group's units mean beside their tensors: MACs of products, and integers that modules remember."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from autoprune.graph.groups import Attribute, ChannelGroup
from autoprune.graph.labels import Classes
from autoprune.graph.remembered import UNFLATTENED
from autoprune.graph.spread import class_numbers, varying
from autoprune.graph.trace import Trace


def macs_of_classes(trace: Trace, classes: Classes) -> np.ndarray:
    """MACs that each class of labels costs in products of activations, int64."""
    macs = np.zeros(len(classes.frozen), dtype=np.int64)
    for item in trace.products:
        np.add.at(macs, classes.index[item.vector.numpy()], item.macs)
    return macs


def find_attributes(
    trace: Trace, classes: Classes, groups: Sequence[ChannelGroup], atoms: Sequence[np.ndarray]
) -> list[Attribute]:
    """Integers of modules that reshape a group's channels to heads, or back, of norms without tensors, and of
    those that are as large as the channels are many.

    Heads of several groups in one module are left out: which of them an integer counts is not known, and
    rule 1 decides.
    """
    numbers = np.full(len(classes.frozen), -1, dtype=np.int64)
    for number, own in enumerate(atoms):
        numbers[own] = number
    found = []
    for module, touched in _groups_counted(trace, classes, numbers).items():
        if len(touched) == 1:
            group = groups[touched.pop()]
            sizes = _counting(trace, classes, module).items()
            exact = [(name, value // group.width) for name, value in sizes if value % group.width == 0]
            found += [Attribute(module, name, ((group.name, each),)) for name, each in exact]
    known = {_where(item) for item in found}
    return found + [item for item in _lengths(trace, classes, groups, numbers) if _where(item) not in known]


def _lengths(
    trace: Trace, classes: Classes, groups: Sequence[ChannelGroup], numbers: np.ndarray
) -> list[Attribute]:
    """Integers as large as the channels are many that their module cuts, joins or takes one by one.

    One as large as others in the same module, of other groups, is left out.
    """
    found: dict[tuple[str, str], set[Attribute]] = defaultdict(set)
    for part in trace.parts:
        own = class_numbers(part.vector, classes).numpy()
        for name, value in trace.program.lengths.get(part.module, {}).items():
            if value == len(own) and (per_unit := _per_unit(own, groups, numbers)):
                fixed = int((numbers[own] < 0).sum())
                found[part.module, name].add(Attribute(part.module, name, per_unit, fixed))
    return [item for items in found.values() if len(items) == 1 for item in items]


def _per_unit(
    own: np.ndarray, groups: Sequence[ChannelGroup], numbers: np.ndarray
) -> tuple[tuple[str, int], ...]:
    """How many of these channels, given by their classes, each unit of each group is; none where the units of
    a group are not all among them, or not alike."""
    found = []
    for number in set(numbers[own].tolist()) - {-1}:
        units, count = np.unique(own[numbers[own] == number], return_counts=True)
        if len(units) < groups[number].width or len(set(count.tolist())) > 1:
            return ()
        found.append((groups[number].name, int(count[0])))
    return tuple(sorted(found))


def _where(item: Attribute) -> tuple[str, str]:
    return item.module, item.name


def _counting(trace: Trace, classes: Classes, module: str) -> dict[str, int]:
    """The integers of a module that may count channels: of an `Unflatten`, the one along which they run."""
    sizes = dict(trace.program.sizes[module])
    if not any(name.startswith(UNFLATTENED) for name in sizes):
        return sizes
    wanted, found = tuple(sizes.values()), set()
    for item in trace.counted:
        if item.module == module:
            first = _place_of(wanted, tuple(item.labels.shape))
            found |= {dim - first for dim in varying(class_numbers(item.labels, classes))}
    named = [f"{UNFLATTENED}{place}" for place in found]
    # -1 is whatever is left.
    return {name: sizes[name] for name in named if sizes.get(name, -1) > 0}


def _place_of(wanted: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Where these sizes begin in a shape, behind the images; beyond its end where they do not."""
    for first in range(1, len(shape) - len(wanted) + 1):
        found = shape[first : first + len(wanted)]
        if all(size in (-1, there) for size, there in zip(wanted, found, strict=True)):
            return first
    return len(shape)


def _groups_counted(trace: Trace, classes: Classes, numbers: np.ndarray) -> dict[str, set[int]]:
    """Module that remembers sizes -> the groups, by number, whose channels it counts."""
    counted: dict[str, set[int]] = defaultdict(set)
    for item in trace.counted:
        if item.module in trace.program.sizes:
            touched = np.unique(numbers[class_numbers(item.labels, classes).numpy()])
            counted[item.module] |= set(touched[touched >= 0].tolist())
    return counted
