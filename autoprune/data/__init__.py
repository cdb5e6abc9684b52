"""Splits of named or user-made datasets, and batches of whatever holds images."""

from autoprune.data.batches import as_batches, check_images, loader
from autoprune.data.fingerprint import data_fingerprint
from autoprune.data.inputs import Inputs, concatenate
from autoprune.data.loading import load_splits
from autoprune.data.registry import register
from autoprune.data.splits import Splits

__all__ = [
    "Inputs",
    "Splits",
    "as_batches",
    "check_images",
    "concatenate",
    "data_fingerprint",
    "load_splits",
    "loader",
    "register",
]
