"""PyTorch's own program format, which needs neither autoprune nor the network's class."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.exporting.base import Format, Runner, output_tensors
from autoprune.exporting.program import capture_program, quiet


class Pt2(Format):
    """What `torch.export.load(file).module()` runs."""

    suffix = ".pt2"
    tolerance = 1e-6

    def write(self, network: nn.Module, example: Inputs, path: Path, *, dynamic: bool) -> None:
        program = capture_program(network, example, dynamic=dynamic)
        with quiet():
            torch.export.save(program, path)

    def read(self, path: Path, network: nn.Module) -> Runner:
        with quiet():
            module = torch.export.load(path).module()

        def run(inputs: Inputs) -> list[Tensor]:
            return output_tensors(inputs.call(module))

        return run
