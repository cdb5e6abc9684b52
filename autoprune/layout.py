"""In which order images lie in memory."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import nn

from autoprune.graph.capture import evaluation_mode

if TYPE_CHECKING:
    from autoprune.data.inputs import Inputs

NARROW = 16
"""Input channels below which oneDNN errs: the float32 numbers in a register of AVX-512; 8 with AVX2."""


@torch.no_grad()
def layout_for(network: nn.Module, inputs: Inputs) -> torch.memory_format:
    """Channels last, which convolutions are fastest in; contiguous where the network fails on that.

    A `view` that joins the channels and the pixels of an image needs them in the order of their dimensions.
    Tried on two of the inputs, for a view may join images too; of a network and its candidates on the dense
    one, for with one channel left every order is right.
    """
    # What else is wrong shows where the network is run in earnest.
    with suppress(Exception), evaluation_mode(network):
        inputs.take(2).laid_out(torch.channels_last).call(network)
        return torch.channels_last
    return torch.contiguous_format


def training_layout(network: nn.Module, dense: nn.Module, inputs: Inputs) -> torch.memory_format:
    """`layout_for` the dense network; contiguous also where the gradients of its candidate would be wrong.

    On a CPU, oneDNN writes past a buffer when it takes the gradient of a strided pointwise convolution with
    few input channels on channels-last images (oneDNN issue 6035, open in PyTorch 2.14): a crash, or wrong
    weights. Pruned shortcuts are such convolutions.
    """
    narrow = any(_is_narrow(module) for module in network.modules())
    return torch.contiguous_format if narrow else layout_for(dense, inputs)


def _is_narrow(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d) or module.weight.device.type != "cpu":
        return False
    return set(module.kernel_size) == {1} and max(module.stride) > 1 and module.weight.shape[1] < NARROW
