"""What a study stores besides Optuna's own fields: names, and how they are written and read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autoprune.errors import StudyError

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
"""Version of everything named here; raise it when a stored study would be misread."""

# On the study
SCHEMA_VERSION = "autoprune.schema"
IDENTITY = "autoprune.identity"
DATA, INPUTS, LABELS = "data", "inputs", "labels"
"""Entries of the identity: hashes of calibration and validation inputs together, the second however they are
batched, and of the labels that judge. Studies of the time before have the first alone."""
TRAINING_DATA = "training_data"
"""Entry of the identity where trials are trained on images in memory: their hash."""
DENSE = "autoprune.dense"
DENSE_WIDTHS = "autoprune.dense_widths"
VERSIONS = "autoprune.versions"
FROZEN = "autoprune.frozen"
"""What cannot be pruned and why: a list of {name, width, reason}. Absent in studies from before it."""
METRIC = "autoprune.metric"
"""Name and scale of the metric: {name, share, floor}. Absent where it is the accuracy."""
TIMED_ON = "autoprune.timed_on"
"""Device, batch and CPU threads of all latencies of the study; only where networks are timed."""
STUDY_HISTORY = "autoprune.history"
SHARED = "autoprune.shared."
"""Prefix of the references to what one worker makes for all."""

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
# Only where networks are timed: what was measured, and what the table had predicted
LATENCY = "latency"
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
    # PyTorch takes seconds to import, and a table of a front needs no mask.
    import torch

    found = re.fullmatch("([0-9]{1,9}):([0-9a-f]+)", text) if isinstance(text, str) else None
    bits = int(found[2], 16) if found else 0
    if found is None or bits.bit_length() > int(found[1]):
        raise StudyError(f"a stored channel mask should look like '64:ff3', got {str(text)[:60]!r}.")
    # As many steps as the mask has digits, whatever width it claims.
    indices = [index for index, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"]
    return torch.tensor(indices, dtype=torch.int64)


def pack_all(kept: Mapping[str, Tensor], widths: Mapping[str, int]) -> dict[str, str]:
    return {name: pack(indices, widths[name]) for name, indices in kept.items()}


def unpack_all(stored: Any) -> dict[str, Tensor]:
    """Kept channels per group as stored with a trial."""
    if not isinstance(stored, Mapping):
        raise StudyError("a trial holds no kept channels; the study was not written by autoprune.")
    return {name: unpack(text) for name, text in stored.items()}
