"""The state dict alone, as safetensors: for code that builds the small network itself."""

from __future__ import annotations

import copy
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.exporting.base import Format, Runner, output_tensors
from autoprune.graph.capture import named_state
from autoprune.graph.state import persistent_names, stored_state


class StateDict(Format):
    """What `safetensors.torch.load_model(network, file)` puts into a network of the pruned sizes.

    A tensor with several names is stored once; `load_model` knows, `load_state_dict` would miss the others.
    The batch size does not concern it.
    """

    suffix = ".safetensors"
    tolerance = 1e-6

    def write(self, network: nn.Module, example: Inputs, path: Path, *, dynamic: bool) -> None:
        # By way of bytes: `save_file` makes a file that its owner alone may read.
        path.write_bytes(safetensors.torch.save(stored_state(network), metadata={"format": "pt"}))

    def read(self, path: Path, network: nn.Module) -> Runner:
        twin = copy.deepcopy(network)
        _erase(twin)
        safetensors.torch.load_model(twin, path)

        def run(inputs: Inputs) -> list[Tensor]:
            return output_tensors(inputs.call(twin))

        return run


@torch.no_grad()
def _erase(network: nn.Module) -> None:
    """Spoil all values that the file should bring, so that one it lacks cannot go unnoticed."""
    state = named_state(network)
    for name in persistent_names(network):
        state[name].fill_(torch.nan if state[name].is_floating_point() else 0)
