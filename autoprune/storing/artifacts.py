"""What is too large for a study's storage: bytes as Optuna artifacts, tied to the study by their digest.

Weights of trained candidates and histories are safetensors; nothing that is read back is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import safetensors.torch
from optuna import Study, Trial
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage, InMemoryStorage
from safetensors import SafetensorError
from sqlalchemy.engine import make_url
from torch import Tensor

from autoprune.config import mask_url
from autoprune.errors import StudyError

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

    def __init__(self, store: Store | None, folder: Path | None = None, reason: str = "") -> None:
        self._store, self._folder, self._reason = store, folder, reason

    def check(self) -> None:
        """StudyError unless there is a place to keep artifacts; cheap, so call it before any long work."""
        if self._store is None:
            raise StudyError(self._reason)

    def save(self, owner: Study | Trial, name: str, content: bytes) -> Reference:
        """Store bytes under a study or a trial; what to write into its attributes."""
        self.check()
        assert self._store is not None
        try:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / name
                path.write_bytes(content)
                number = upload_artifact(
                    artifact_store=self._store, file_path=str(path), study_or_trial=owner
                )
        except OSError as error:
            raise StudyError(
                f"artifacts cannot be written to '{self._folder}': {error.strerror}; set 'artifacts' in the "
                "study file to another folder."
            ) from error
        return {"artifact": number, "sha256": hashlib.sha256(content).hexdigest()}

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
            place = f" in '{self._folder}'" if self._folder is not None else ""
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

    Creates nothing. A storage on a server has no file, so it needs a folder once there is something to keep.
    """
    place = _beside(storage) if folder is None else Path(folder).expanduser()
    if place is not None:
        return Artifacts(FileSystemArtifactStore(place), place)
    if storage is None or make_url(storage).get_backend_name() == "sqlite":
        return Artifacts(MemoryStore())
    reason = (
        f"storage '{mask_url(storage)}' has no folder for artifacts (trained weights, histories); set "
        "'artifacts' in the study file to a folder that all workers share."
    )
    return Artifacts(None, reason=reason)


def _beside(storage: str | None) -> Path | None:
    if storage is None:
        return None
    if "://" not in storage:
        return Path(f"{storage}.artifacts")
    url = make_url(storage)
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(f"{url.database}.artifacts") if is_file else None


def read_tensors(content: bytes, what: str) -> dict[str, Tensor]:
    """The tensors of a safetensors artifact, on the CPU."""
    try:
        return dict(safetensors.torch.load(content))
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise StudyError(f"{what} is not readable as safetensors: {error}") from error


def _read_reference(reference: Any, what: str) -> tuple[str, str]:
    if isinstance(reference, Mapping):
        number, digest = reference.get("artifact"), reference.get("sha256")
        if isinstance(number, str) and isinstance(digest, str):
            return number, digest
    raise StudyError(f"{what} should be named by artifact and sha256, got {str(reference)[:60]!r}.")
