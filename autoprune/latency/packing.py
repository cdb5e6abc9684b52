"""Tables as safetensors, and back, bit for bit."""

from __future__ import annotations

import numpy as np
import safetensors.torch
import torch

from autoprune.errors import StudyError
from autoprune.latency.design import LEVELS
from autoprune.latency.table import TAIL, TERMS, Table
from autoprune.storing.artifacts import read_tensors

ARRAYS = ("rows", "columns", "ms", "tails", "coefficients")
NUMBERS = ("block", "error", "spread")


def pack_table(table: Table) -> bytes:
    """Everything as float64."""
    arrays = {name: torch.tensor(getattr(table, name), dtype=torch.float64) for name in (*ARRAYS, *NUMBERS)}
    return bytes(safetensors.torch.save(arrays))


def unpack_table(content: bytes, layers: int) -> Table:
    """Read `pack_table`; StudyError unless it is one of a network with so many layers."""
    what = "the latency table of the study"
    tensors = read_tensors(content, what)
    shapes = {
        **dict.fromkeys(("rows", "columns"), (layers, LEVELS)),
        "ms": (layers, LEVELS, LEVELS),
        "tails": (layers, TAIL),
        "coefficients": (TERMS,),
        **dict.fromkeys(NUMBERS, ()),
    }
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    doubles = all(tensor.dtype == torch.float64 for tensor in tensors.values())
    if found != shapes or not doubles:
        raise StudyError(f"{what} should fit this network's {layers} layers; it is made again.")
    arrays = {name: tensor.clone().numpy() for name, tensor in tensors.items()}
    if not all(np.isfinite(a).all() and (a >= 0).all() for a in arrays.values()):
        raise StudyError(f"{what} should hold times, which are finite and not negative; it is made again.")
    if not all((np.diff(arrays[name]) > 0).all() for name in ("rows", "columns")) or arrays["block"] < 1:
        raise StudyError(f"{what} should hold rising widths; it is made again.")
    rows, columns, ms, after, coefficients = (arrays[name] for name in ARRAYS)
    block, error, spread = (float(arrays[name]) for name in NUMBERS)
    return Table(rows, columns, ms, after, coefficients, int(block), error, spread)
