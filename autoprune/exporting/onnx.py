"""ONNX, checked in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.exporting.base import Format, Runner
from autoprune.exporting.program import BATCH, batch_shapes, capture_program, quiet

ERRORS_ONLY = 3


class Onnx(Format):
    """One file that holds its weights; ONNX allows 2 GiB. The free size is named `batch`."""

    suffix = ".onnx"
    tolerance = 1e-4
    modules = ("onnx", "onnxscript", "onnxruntime")

    def write(self, network: nn.Module, example: Inputs, path: Path, *, dynamic: bool) -> None:
        program = capture_program(network, example, dynamic=dynamic)
        names = batch_shapes(network, example, BATCH) if dynamic else None
        with quiet():
            torch.onnx.export(
                program, (), path, dynamo=True, dynamic_shapes=names, external_data=False, verbose=False
            )

    def read(self, path: Path, network: nn.Module) -> Runner:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]

        def run(inputs: Inputs) -> list[Tensor]:
            arrays = [tensor.contiguous().numpy() for tensor in inputs.tensors]
            found = session.run(None, dict(zip(names, arrays, strict=True)))
            return [torch.from_numpy(array) for array in found]

        return run
