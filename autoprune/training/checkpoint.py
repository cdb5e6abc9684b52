"""A training on disk after every epoch: written atomically, read without unpickling code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from autoprune.config import differences
from autoprune.errors import TrainingError

SCHEMA = 1
State = dict[str, Any]
"""Tensors, numbers and texts in dictionaries and lists."""


def write_checkpoint(path: Path, state: State, identity: State) -> None:
    """`identity` says which training this is. Complete before it replaces the one before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"schema": SCHEMA, "identity": identity, "state": state}, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        # torch's writer has errors of its own where a disk is full.
        why = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise TrainingError(f"checkpoint '{path}' cannot be written: {why}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path, identity: State) -> State | None:
    """The state of a training that was interrupted, on the CPU; None where there is none.

    TrainingError for a file that is damaged or belongs to another training, with what differs.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        schema, found, state = int(content["schema"]), dict(content["identity"]), dict(content["state"])
    except OSError as error:
        raise TrainingError(f"checkpoint '{path}' cannot be read: {error.strerror}.") from error
    except Exception as error:
        # Bytes that are no checkpoint make the reader fail in many ways.
        raise TrainingError(f"checkpoint '{path}' is damaged; remove it and begin anew.") from error
    if schema != SCHEMA:
        raise TrainingError(f"checkpoint '{path}' must have schema {SCHEMA}, got {schema}; begin anew.")
    changed = differences(found, identity)
    if changed:
        raise TrainingError(
            f"checkpoint '{path}' belongs to another training ({'; '.join(changed[:3])}); "
            "restore that, or remove the checkpoint and begin anew."
        )
    checked: State = state
    return checked
