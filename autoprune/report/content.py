"""What the report tells, read from the storage alone: neither the model nor the data are needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from optuna import Study

from autoprune.errors import StudyError
from autoprune.searching import attributes as attr
from autoprune.searching.front import UNITS, Front, Point
from autoprune.searching.packing import unpack_profile
from autoprune.searching.profile import Profile
from autoprune.searching.space import LATENCY, OBJECTIVES
from autoprune.searching.stored import read_widths
from autoprune.searching.study import finished, front_of, stored_study
from autoprune.storing.artifacts import Artifacts, open_artifacts


@dataclass(frozen=True, kw_only=True)
class Content:
    """A study as the report shows it. All names in it come from the storage, so from anybody.

    `widths` are those of the dense network, in network order. `budget` holds shares of the dense network's
    cost. `seconds` is the time from the start of the first trial to the end of each, by trial. `frozen` is
    None where the study does not say what is frozen, `profile` where it holds none that can be read.
    """

    front: Front
    widths: Mapping[str, int]
    budget: Mapping[str, float]
    seconds: Mapping[int, float]
    identity: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    frozen: Sequence[Mapping[str, Any]] | None = None
    profile: Profile | None = None

    @property
    def name(self) -> str:
        return self.front.study

    @property
    def proxies(self) -> list[str]:
        """Names of the proxies that any finished trial has a finite value of."""
        found = {name: None for p in self.front.trials for name, v in p.proxies.items() if math.isfinite(v)}
        return list(found)

    @property
    def cost(self) -> str:
        """What the front runs over, in words."""
        return UNITS[self.front.objective]

    @property
    def bound(self) -> float | None:
        """The budget on that cost, as a share of the dense network's."""
        return self.budget.get(OBJECTIVES[self.front.objective])

    def over(self, objective: str) -> Content:
        """The same study with its front over another cost, see `Front.over`."""
        return replace(self, front=self.front.over(objective))

    def within(self, share: float) -> Point | None:
        """The most accurate trial of at most this share of the dense cost."""
        inside = [point for point in self.front.points if self.front.share(point) <= share]
        return inside[-1] if inside else None


def read_content(storage: str, name: str, artifacts: Artifacts | None = None) -> Content:
    """Everything the report needs; StudyError when the study is absent, damaged or not ours.

    `artifacts` are those of the study; by default those beside the storage.
    """
    return content_of(stored_study(storage, name), artifacts or open_artifacts(None, storage))


def content_of(study: Study, artifacts: Artifacts) -> Content:
    front, stored = front_of(study), study.user_attrs
    identity = stored[attr.IDENTITY]
    return Content(
        front=front,
        widths=read_widths(study),
        budget=_budget(identity.get("budget"), front),
        seconds=_seconds(study),
        identity=identity,
        versions=_mapping(stored.get(attr.VERSIONS)),
        frozen=_frozen(stored.get(attr.FROZEN)),
        profile=_profile(study, artifacts),
    )


def _budget(stored: Any, front: Front) -> dict[str, float]:
    costs = {name: getattr(front.dense, name) for name in ("macs", "params", "bytes", LATENCY)}
    dense = {name: cost for name, cost in costs.items() if cost is not None}
    numbers = {
        name: float(value)
        for name, value in _mapping(stored).items()
        if name in dense and isinstance(value, int | float) and math.isfinite(value) and value > 0
    }
    # As in a study file: up to 1 a share of the dense network's.
    return {
        name: value if value <= 1 and name != LATENCY else value / dense[name]
        for name, value in numbers.items()
    }


def _seconds(study: Study) -> dict[int, float]:
    trials = finished(study)
    start = min((t.datetime_start for t in trials if t.datetime_start is not None), default=None)
    if start is None:
        return {}
    return {t.number: _since(start, t.datetime_complete) for t in trials if t.datetime_complete is not None}


def _since(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())


def _frozen(stored: Any) -> list[dict[str, Any]] | None:
    if not isinstance(stored, list):
        return None
    return [dict(entry) for entry in stored if isinstance(entry, Mapping)]


def _profile(study: Study, artifacts: Artifacts) -> Profile | None:
    """The profile stored last that fits this study; there are several where settings differ."""
    stored = [value for key, value in study.user_attrs.items() if key.startswith(f"{attr.SHARED}profile.")]
    batches = study.user_attrs[attr.IDENTITY].get("batch_removal")
    if not isinstance(batches, list) or not all(type(batch) is int for batch in batches):
        return None
    for reference in reversed(stored):
        try:
            content = artifacts.load(reference, "the profile of the study", "the report goes without it.")
            return unpack_profile(content, read_widths(study), batches)
        except StudyError:
            # A report of the rest is worth more than none.
            continue
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
