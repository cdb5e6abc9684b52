"""What a study stores besides Optuna's own fields: names, and how they are written and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from autoprune.errors import StudyError

SCHEMA = 1
"""Version of everything named here; raise it when a stored study would be misread."""

# On the study
SCHEMA_VERSION = "autoprune.schema"
IDENTITY = "autoprune.identity"
DENSE = "autoprune.dense"
DENSE_WIDTHS = "autoprune.dense_widths"
VERSIONS = "autoprune.versions"
STUDY_HISTORY = "autoprune.history"

# On a trial
WIDTHS = "widths"
KEPT = "kept"
COSTS = "costs"
BEFORE = "accuracy_before_reconstruction"
OUTPUT_ERROR = "output_error"
CRITERION = "criterion"
BATCH = "batch_removal"
PROVENANCE = "provenance"
PROXIES = "proxies"
TRIED = "tried"
# Only on a trained trial: the name of the recovery, and its artifacts.
RECOVERY = "recovery"
WEIGHTS = "weights"
HISTORY = "history"


def pack(kept: Tensor, width: int) -> str:
    """Kept channel indices as a hexadecimal bit mask: bit c is channel c."""
    mask = 0
    for index in kept.tolist():
        mask |= 1 << index
    return f"{width}:{mask:x}"


def unpack(text: str) -> Tensor:
    """Sorted int64 indices from `pack`; StudyError when the text is damaged."""
    try:
        width, mask = text.split(":")
        bits = int(mask, 16)
        indices = [index for index in range(int(width)) if bits >> index & 1]
        if bits >> int(width):
            raise ValueError
    except (ValueError, AttributeError):
        raise StudyError(f"a stored channel mask should look like '64:ff3', got {text!r}.") from None
    return torch.tensor(indices, dtype=torch.int64)


def pack_all(kept: Mapping[str, Tensor], widths: Mapping[str, int]) -> dict[str, str]:
    return {name: pack(indices, widths[name]) for name, indices in kept.items()}


def unpack_all(stored: Any) -> dict[str, Tensor]:
    """Kept channels per group as stored with a trial."""
    if not isinstance(stored, Mapping):
        raise StudyError("a trial holds no kept channels; the study was not written by autoprune.")
    return {name: unpack(text) for name, text in stored.items()}
