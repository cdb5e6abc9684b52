"""What a space still holds: the nearest candidate that nobody has measured."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

import numpy as np

from autoprune.searching.space import Space

Key = tuple[int, ...]
"""A candidate: its batch removal size, then its widths."""


def nearest_untaken(
    space: Space, batches: Sequence[int], start: Key, taken: Container[Key], target: float
) -> Key | None:
    """The candidate within the bounds that is fewest steps from `start`, of those the nearest in cost to
    `target`; None where all are `taken`.

    A step is one group's next allowed width, or another batch removal size. Whatever is within the bounds is
    reached so, for no cost that is counted falls as a width grows (a latency
    that is measured may, so beyond such a step something can be missed).
    """
    seen, level = {start}, [start]
    while level:
        if free := [key for key in level if key not in taken]:
            costs = space.objectives(np.array([key[1:] for key in free]))
            return free[int(np.argmin(np.abs(costs - target)))]
        level = [key for key in _within(space, _around(space, batches, level)) if key not in seen]
        seen.update(level)
    return None


def _within(space: Space, keys: Iterable[Key]) -> list[Key]:
    different = list(dict.fromkeys(keys))
    if not different:
        return []
    inside = space.excess(np.array([key[1:] for key in different])) <= 0
    return [key for key, fits in zip(different, inside, strict=True) if fits]


def _around(space: Space, batches: Sequence[int], keys: Iterable[Key]) -> Iterator[Key]:
    for batch, *counts in keys:
        yield from ((other, *counts) for other in batches if other != batch)
        for group, options in enumerate(space.options):
            place = int(np.searchsorted(options, counts[group]))
            for option in (*options[max(0, place - 1) : place], *options[place + 1 : place + 2]):
                yield (batch, *counts[:group], int(option), *counts[group + 1 :])
