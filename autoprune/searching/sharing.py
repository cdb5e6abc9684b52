"""What is made once per study, by one worker, and read by the others: curves, and second moments.

The bytes are an artifact, its name is an attribute of the study beside a digest of everything that they
depend on. An artifact that is missing or damaged is made again: nothing of the search is lost with it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from optuna import Study
from optuna.storages import BaseStorage, InMemoryStorage

from autoprune.calibration.moments import Moments
from autoprune.errors import StudyError
from autoprune.fingerprint import DIGITS
from autoprune.graph.groups import Layer
from autoprune.latency.packing import pack_table, unpack_table
from autoprune.latency.table import Table
from autoprune.progress import Progress
from autoprune.searching import attributes as attr
from autoprune.searching.packing import FORMAT, pack_moments, pack_profile, unpack_moments, unpack_profile
from autoprune.searching.profile import Profile
from autoprune.storing.artifacts import Artifacts
from autoprune.storing.claims import Claims

MOST_BYTES = 2 * 2**30
"""Second moments larger than this are not shared: every worker finds its own in about the time of reading."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Shared(Generic[T]):
    """A thing that workers share. `depends` is what it follows from beside the study's identity.

    `unpack` reads what `pack` wrote, bit for bit; StudyError for anything else.
    """

    name: str
    depends: Mapping[str, Any]
    make: Callable[[], T]
    pack: Callable[[T], bytes]
    unpack: Callable[[bytes], T]


def shared_profile(
    make: Callable[[], Profile], widths: Mapping[str, int], batches: Sequence[int], **depends: Any
) -> Shared[Profile]:
    """The profile of groups of these widths, for these batch removal sizes."""
    return Shared(
        name="profile",
        depends=depends,
        make=make,
        pack=pack_profile,
        unpack=lambda content: unpack_profile(content, widths, batches),
    )


def shared_moments(
    make: Callable[[], Mapping[str, Moments]], layers: Sequence[Layer], device: torch.device, **depends: Any
) -> Shared[Mapping[str, Moments]]:
    """Second moments of the inputs of these layers, placed on the device."""
    return Shared(
        name="moments",
        depends=depends,
        make=make,
        pack=pack_moments,
        unpack=lambda content: unpack_moments(content, layers, device),
    )


def shared_table(make: Callable[[], Table], layers: int, **depends: Any) -> Shared[Table]:
    """The latency table of a network with so many layers."""
    return Shared(
        name="latency",
        depends=depends,
        make=make,
        pack=pack_table,
        unpack=lambda content: unpack_table(content, layers),
    )


class Sharing:
    """Between the workers of one study; `study()` opens it when it is first needed.

    Reads what others left; makes things for all, and waits for others, only once a search is `active`. In
    memory there are no others.
    """

    def __init__(
        self, storage: BaseStorage, study: Callable[[], Study], artifacts: Artifacts, progress: Progress
    ) -> None:
        self.active, self._told = False, False
        self._alone, self._study = isinstance(storage, InMemoryStorage), study
        self._artifacts, self._progress = artifacts, progress
        self._bad: set[str] = set()

    def get(self, wanted: Shared[T]) -> T:
        """The thing as the study has it, or as made just now."""
        if self._alone or not self._has_place():
            return wanted.make()
        key = self._key(wanted)
        found = self._read(wanted, key)
        if not self.active:
            return wanted.make() if found is None else found
        claims, what = Claims(self._study(), self._progress.message), f"the {wanted.name} of the study"
        while found is None:
            with claims.turn(key, what, lambda: self._reference(key) is not None) as mine:
                # Another may have finished just before the claim.
                found = self._read(wanted, key)
                if found is None and mine:
                    found = self._made(wanted, key)
        return found

    def _has_place(self) -> bool:
        try:
            self._artifacts.check()
        except StudyError as error:
            if self.active and not self._told:
                self._progress.message(f"every worker calibrates and measures curves for itself: {error}")
                self._told = True
            return False
        return True

    def _key(self, wanted: Shared[Any]) -> str:
        """Attribute of the reference; a search with other settings has another."""
        identity = self._study().user_attrs[attr.IDENTITY]
        text = json.dumps({"identity": identity, "format": FORMAT, **wanted.depends}, sort_keys=True)
        return f"{attr.SHARED}{wanted.name}.{hashlib.sha256(text.encode()).hexdigest()[:DIGITS]}"

    def _reference(self, key: str) -> Any:
        """What the study says of the artifact; None for nothing, and for what could not be read."""
        found = self._study().user_attrs.get(key)
        return None if repr(found) in self._bad else found

    def _read(self, wanted: Shared[T], key: str) -> T | None:
        reference = self._reference(key)
        if reference is None:
            return None
        try:
            content = self._artifacts.load(reference, f"the {wanted.name} of the study", "it is made again.")
            return wanted.unpack(content)
        except StudyError as error:
            self._bad.add(repr(reference))
            _log.warning("%s", error)
            return None

    def _made(self, wanted: Shared[T], key: str) -> T:
        made = wanted.make()
        # The first one stored is everybody's.
        first = self._read(wanted, key)
        if first is not None:
            return first
        try:
            study = self._study()
            content = self._artifacts.save(study, f"{wanted.name}.safetensors", wanted.pack(made))
            study.set_user_attr(key, content)
        except StudyError as error:
            _log.warning("the %s of the study cannot be shared: %s", wanted.name, error)
        return made
