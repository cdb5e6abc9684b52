"""What a study's attributes say, checked as they are read: others may have written to the storage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import contains
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from autoprune.errors import StudyError
from autoprune.searching import attributes as attr
from autoprune.searching.front import Dense
from autoprune.searching.metric_scale import ACCURACY, MetricScale
from autoprune.searching.space import LATENCY, OBJECTIVES, Space

Count = Annotated[int, Field(ge=1)]
Cost = Annotated[int, Field(ge=0)]
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Score = Annotated[float, Field(allow_inf_nan=False)]
Widths = dict[str, Count]


class Described(Protocol):
    """A study, as Optuna gives it or as it is read at one go."""

    @property
    def study_name(self) -> str: ...

    @property
    def user_attrs(self) -> dict[str, Any]: ...


class Finished(Protocol):
    """A finished trial, likewise."""

    @property
    def number(self) -> int: ...

    @property
    def values(self) -> list[float] | None: ...

    @property
    def user_attrs(self) -> dict[str, Any]: ...


class _Stored(BaseModel):
    # What a later version adds is left alone.
    model_config = ConfigDict(strict=True, extra="ignore")


class StoredDense(_Stored):
    macs: Count
    params: Count
    bytes: Count
    accuracy: Score
    latency_ms: Milliseconds | None = None
    latency_spread_ms: Milliseconds | None = None


class StoredPlace(_Stored):
    """Where the study's networks are timed."""

    device: str
    batch: Count
    threads: Count


class StoredLatency(_Stored):
    ms: Milliseconds
    spread_ms: Milliseconds
    predicted_ms: Milliseconds


class StoredCosts(_Stored):
    macs: Cost
    params: Cost
    bytes: Cost


class StoredMetric(_Stored):
    name: Annotated[str, Field(min_length=1, max_length=80)]
    share: bool
    floor: Score | None


class StoredTried(_Stored):
    """A candidate that was considered beside a trial, see the strategies."""

    counts: list[Count]
    batch: Count
    error_on_few_images: float | None
    loss_on_few_images: float | None = None


class StoredTrial(_Stored):
    """Attributes of a finished trial, under the names of `attributes`; channel masks are not unpacked."""

    costs: StoredCosts
    widths: Widths
    kept: dict[str, str]
    accuracy_before_reconstruction: Score | None
    output_error: float
    batch_removal: Count
    criterion: str
    proxies: dict[str, float] = {}
    tried: list[StoredTried] = []
    latency: StoredLatency | None = None


class StoredWalk(_Stored):
    """A removal walk between two steps: widths, and each group's damage where it is known."""

    counts: list[Count]
    value: Score
    damage: list[Score | None]
    assessments: Annotated[int, Field(ge=0)]


class StoredPath(_Stored):
    """The candidates that a walk has passed, and where it stands."""

    passed: list[list[Count]] = []
    walk: StoredWalk | None = None


Model = TypeVar("Model", bound=_Stored)
_widths = TypeAdapter(Widths, config=ConfigDict(strict=True))


def read_dense(study: Described) -> Dense:
    """The dense network's costs and accuracy; StudyError where the study says something else."""
    found = _checked(StoredDense, study.user_attrs.get(attr.DENSE), f"study '{study.study_name}'")
    return Dense(**dict(found))


def read_metric(study: Described) -> MetricScale:
    """What the study's networks are judged by: the accuracy, where it does not say."""
    stored = study.user_attrs.get(attr.METRIC)
    if stored is None:
        return ACCURACY
    return MetricScale(**dict(_checked(StoredMetric, stored, f"study '{study.study_name}'")))


def read_place(study: Described) -> StoredPlace:
    """Where the study's networks are timed; StudyError where it does not say."""
    return _checked(StoredPlace, study.user_attrs.get(attr.TIMED_ON), f"study '{study.study_name}'")


def read_objective(study: Described) -> str:
    """What the study's front runs over beside accuracy."""
    name = study.user_attrs[attr.IDENTITY].get("objective", "macs")
    if name not in OBJECTIVES:
        raise StudyError(f"study '{study.study_name}' is damaged: its objective is {str(name)[:60]!r}.")
    return str(name)


def read_latency_bound(study: Described) -> float | None:
    """Milliseconds that the study's networks may take, where it has such a budget."""
    budget = study.user_attrs[attr.IDENTITY].get("budget")
    bound = budget.get(LATENCY) if isinstance(budget, Mapping) else None
    return float(bound) if isinstance(bound, int | float) and math.isfinite(bound) else None


def read_widths(study: Described) -> Widths:
    """Widths of the dense network's groups."""
    try:
        return _widths.validate_python(study.user_attrs.get(attr.DENSE_WIDTHS))
    except ValidationError as error:
        raise _damaged(f"study '{study.study_name}'", error) from error


def read_trial(trial: Finished, dense: Mapping[str, int]) -> StoredTrial:
    """What a finished trial says; StudyError unless its groups are those of the `dense` widths."""
    what = f"trial {trial.number} of the study"
    found = _checked(StoredTrial, trial.user_attrs, what)
    if not trial.values or not math.isfinite(trial.values[0]):
        raise StudyError(f"{what} is damaged: its accuracy should be a number, got {trial.values}.")
    if any(len(tried.counts) != len(dense) for tried in found.tried):
        raise StudyError(
            f"{what} is damaged: what was tried should have a width for each of {len(dense)} groups."
        )
    odd = [name for name, kept in found.widths.items() if kept > dense.get(name, 0)]
    if odd or found.kept.keys() != found.widths.keys():
        raise StudyError(f"{what} is damaged: widths and kept channels should be of the study's groups.")
    return found


def read_path(stored: Any, space: Space) -> StoredPath:
    """A walk as a strategy remembered it; StudyError unless it is one through this space."""
    what = "the removal walk of the study"
    found = _checked(StoredPath, stored, what)
    rows = [*found.passed, *([] if found.walk is None else [found.walk.counts])]
    allowed = [set(option.tolist()) for option in space.options]
    fits = all(len(row) == len(allowed) and all(map(contains, allowed, row)) for row in rows)
    if not fits or (found.walk is not None and len(found.walk.damage) != len(allowed)):
        raise StudyError(f"{what} is damaged: its widths should be of the {len(allowed)} groups.")
    return found


def _checked(model: type[Model], values: Any, what: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _damaged(what, error) from error


def _damaged(what: str, error: ValidationError) -> StudyError:
    problem = error.errors(include_url=False)[0]
    place = ".".join(map(str, problem["loc"])) or "its description"
    missing = problem["type"] == "missing"
    return StudyError(f"{what} is damaged: {place!r} {'is missing' if missing else problem['msg']}.")
