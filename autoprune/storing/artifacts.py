"""What is too large for a study's storage: bytes as Optuna artifacts, tied to the study by their digest.

Weights of trained candidates and histories are safetensors; nothing that is read back is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from optuna import Study, Trial
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage, InMemoryStorage
from torch import Tensor

from autoprune.config import mask_url
from autoprune.errors import StudyError
from autoprune.storing.s3 import S3Store
from autoprune.storing.storages import parsed
from autoprune.tensors import read_safetensors

Reference = dict[str, str]
"""How a study names an artifact: its Optuna id under `artifact`, and its `sha256`."""


class Store(Protocol):
    """Optuna's protocol of an artifact store."""

    def open_reader(self, artifact_id: str) -> BinaryIO: ...
    def write(self, artifact_id: str, content_body: BinaryIO) -> None: ...
    def remove(self, artifact_id: str) -> None: ...


class MemoryStore:
    """Artifacts of a study that lives in the memory of this process."""

    def __init__(self) -> None:
        self._content: dict[str, bytes] = {}

    def open_reader(self, artifact_id: str) -> BinaryIO:
        if artifact_id not in self._content:
            raise ArtifactNotFound("not found")
        return io.BytesIO(self._content[artifact_id])

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self._content[artifact_id] = content_body.read()

    def remove(self, artifact_id: str) -> None:
        self._content.pop(artifact_id, None)


class Artifacts:
    """Saves and loads the artifacts of one study. `store` None: there is no place for them, for `reason`."""

    def __init__(
        self, store: Store | None, folder: Path | None = None, reason: str = "", place: str = ""
    ) -> None:
        self._store, self._folder, self._reason = store, folder, reason
        self._place = place or str(folder or "")

    @property
    def store(self) -> Store | None:
        """Where they lie, for other programs that read them; None where there is no place."""
        return self._store

    def check(self) -> None:
        """StudyError unless there is a place to keep artifacts; cheap, so call it before any long work."""
        if self._store is None:
            raise StudyError(self._reason)

    def save(self, owner: Study | Trial, name: str, content: bytes) -> Reference:
        """Store bytes under a study or a trial; what to write into its attributes."""
        with self._writing() as store, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            number = upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=owner)
        return {"artifact": number, "sha256": hashlib.sha256(content).hexdigest()}

    def replace(self, reference: Any, content: bytes) -> Reference:
        """Other bytes in the place of an artifact; its new reference."""
        number, _ = _read_reference(reference, "the artifact")
        with self._writing() as store:
            store.write(number, io.BytesIO(content))
        return {"artifact": number, "sha256": hashlib.sha256(content).hexdigest()}

    @contextmanager
    def _writing(self) -> Iterator[Store]:
        self.check()
        assert self._store is not None
        try:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
            yield self._store
        except OSError as error:
            raise StudyError(
                f"artifacts cannot be written to '{self._folder}': {error.strerror}; set 'artifacts' in the "
                "study file to another folder."
            ) from error

    def load(self, reference: Any, what: str, remedy: str) -> bytes:
        """The bytes of an artifact; StudyError where they are missing or not those that were saved.

        `what` and `remedy` stand in the message: what is read, and what to do when that fails.
        """
        self.check()
        number, digest = _read_reference(reference, what)
        try:
            assert self._store is not None
            with self._store.open_reader(number) as file:
                content = file.read()
        except (ArtifactNotFound, OSError, ValueError):
            place = f" in '{self._place}'" if self._place else ""
            text = f"{what} should be artifact {number}{place}, but it is missing; {remedy}"
            raise StudyError(text) from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise StudyError(f"{what} (artifact {number}) is damaged: its digest is another; {remedy}")
        return content


def artifacts_of(storage: str | BaseStorage | None) -> Artifacts:
    """Artifacts beside a storage that is named, or in memory; nowhere for another storage object."""
    if isinstance(storage, BaseStorage) and not isinstance(storage, InMemoryStorage):
        return Artifacts(None, reason="a storage object comes with no place for artifacts; pass them too.")
    return open_artifacts(None, None if isinstance(storage, BaseStorage) else storage)


def open_artifacts(folder: str | None, storage: str | None) -> Artifacts:
    """The artifacts of the study in `storage`: in `folder`, or beside the storage's own file, or in memory.

    `folder` may also be a bucket, `s3://bucket/prefix`. Creates nothing. A storage on a server has no file,
    so it needs a folder once there is something to keep.
    """
    if folder is not None and "://" in folder:
        return _in_bucket(folder)
    place = _beside(storage) if folder is None else Path(folder)
    if place is not None:
        return Artifacts(FileSystemArtifactStore(place), place)
    if storage is None or parsed(storage).get_backend_name() == "sqlite":
        return Artifacts(MemoryStore())
    reason = (
        f"storage '{mask_url(storage)}' has no folder for artifacts (trained weights, histories); set "
        "'artifacts' in the study file to a folder that all workers share, or to s3://bucket/prefix."
    )
    return Artifacts(None, reason=reason)


def _in_bucket(place: str) -> Artifacts:
    if not place.startswith("s3://"):
        raise StudyError(f"artifacts '{mask_url(place)}' should be a folder or s3://bucket/prefix.")
    return Artifacts(S3Store(place), place=place)


def _beside(storage: str | None) -> Path | None:
    file = file_of(storage)
    return None if file is None else Path(f"{file}.artifacts")


def file_of(storage: str | None) -> Path | None:
    """The file of a storage that is one: a journal, or SQLite's."""
    if storage is None or "://" not in storage:
        return None if storage is None else Path(storage)
    url = parsed(storage)
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file else None


def read_tensors(content: bytes, what: str) -> dict[str, Tensor]:
    """The tensors of a safetensors artifact, on the CPU."""
    try:
        return read_safetensors(content)
    except ValueError as error:
        raise StudyError(f"{what} is not readable as safetensors: {error}") from error


def _read_reference(reference: Any, what: str) -> tuple[str, str]:
    if isinstance(reference, Mapping):
        number, digest = reference.get("artifact"), reference.get("sha256")
        # Optuna's ids: nothing that could be a path.
        if isinstance(number, str) and isinstance(digest, str) and re.fullmatch("[0-9a-f-]{36}", number):
            return number, digest
    raise StudyError(f"{what} should be named by artifact and sha256, got {str(reference)[:60]!r}.")
