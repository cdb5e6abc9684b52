"""A network as a torch.export program whose batch size may be left open."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, ShapesCollection

from autoprune.data.inputs import Inputs
from autoprune.graph.capture import unlogged

BATCH = "batch"


def capture_program(network: nn.Module, example: Inputs, *, dynamic: bool) -> ExportedProgram:
    """Trace the network; where `dynamic`, dimension 0 of all inputs is one free size. Torch's errors pass."""
    shapes = batch_shapes(network, example, Dim(BATCH)) if dynamic else None
    with quiet():
        return torch.export.export(network, example.args, dict(example.kwargs), dynamic_shapes=shapes)


def batch_shapes(network: nn.Module, example: Inputs, size: Any) -> dict[str, Any]:
    """The structure that torch wants `dynamic_shapes` in, `size` for dimension 0 of every input."""
    shapes = ShapesCollection()  # type: ignore[no-untyped-call]
    for tensor in example.tensors:
        shapes[tensor] = {0: size}
    # Unlike torch's own type of it, a plain mapping can be given to the ONNX exporter as well.
    return dict(shapes.dynamic_shapes(network, example.args, dict(example.kwargs)))  # type: ignore[no-untyped-call]


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch and the ONNX exporter remark about themselves; a user's own warnings pass."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), unlogged():
            warnings.filterwarnings("ignore", module=r"(torch|onnx|onnxscript|onnx_ir|copyreg)(\.|$)")
            yield
    finally:
        logger.setLevel(level)
