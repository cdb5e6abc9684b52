"""Which networks of a study are meant: by budgets, one or several at once, or by the number of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.config import with_search
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from autoprune.config import StudyConfig
    from autoprune.searching.front import Front, Point


class Ranking(StrEnum):
    ACCURACY = "accuracy"
    OUTPUT_ERROR = "output-error"


By = Annotated[
    Ranking,
    typer.Option(
        help="Which trial within the budget: the most accurate, or the one whose outputs are nearest to the "
        "dense network's, which luck with few validation images changes less."
    ),
]
Bounds = Mapping[str, float]
"""Largest cost by its name: macs, params (up to 1 a fraction of dense), latency_ms."""


def option(name: str) -> str:
    """How a bound is spelled on the command line."""
    return f"--{name.replace('_', '-')}"


def requests(given: Mapping[str, Sequence[float] | None], trial: int | None) -> dict[str, Bounds]:
    """One set of bounds for each network that is asked for, by a name such as 'macs-0.5'.

    One option may be given several times; the others then hold for every network.
    """
    wanted = {name: list(dict.fromkeys(values)) for name, values in given.items() if values}
    listed = [option(name) for name in given]
    if trial is not None and wanted:
        raise ConfigError(f"--trial names one network; leave out {', '.join(listed)}.")
    if trial is not None:
        return {f"trial-{trial}": {}}
    if not wanted:
        text = f"say which network: {' R, '.join(listed)} R or --trial N, for instance {listed[0]} 0.5."
        raise ConfigError(text)
    several = [name for name, values in wanted.items() if len(values) > 1]
    if len(several) > 1:
        names = " and ".join(map(option, several))
        raise ConfigError(f"several budgets of one cost at once, not of {names}; give one of them once.")
    name = several[0] if several else next(iter(wanted))
    fixed = {other: values[0] for other, values in wanted.items() if other != name}
    return {f"{option(name)[2:]}-{value:.15g}": {name: value, **fixed} for value in wanted[name]}


def choose(front: Front, bounds: Bounds, trial: int | None, by: Ranking) -> Point:
    """The best point within the bounds, or that of the trial."""
    if trial is not None and by is not Ranking.ACCURACY:
        raise ConfigError("--by chooses within a budget, and --trial names one network; leave one out.")
    return front.best(**bounds, by=by.value) if trial is None else front.of_trial(trial)


def as_searched(config: StudyConfig, front: Front) -> StudyConfig:
    """The study with the objective it was searched with, which 'search --objective' may have given."""
    return with_search(config, {"objective": front.objective})
