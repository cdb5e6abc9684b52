"""In which order images lie in memory while gradients are taken."""

from __future__ import annotations

import torch
from torch import nn

NARROW = 16
"""Input channels below which oneDNN errs: the float32 numbers in a register of AVX-512; 8 with AVX2."""


def training_layout(network: nn.Module) -> torch.memory_format:
    """Channels last, which CPUs are fastest in; contiguous where its gradients would be wrong.

    On a CPU, oneDNN writes past a buffer when it takes the gradient of a strided pointwise convolution with
    few input channels on channels-last images (oneDNN issue 6035, open in PyTorch 2.14): a crash, or wrong
    weights. Pruned shortcuts are such convolutions.
    """
    narrow = any(_is_narrow(module) for module in network.modules())
    return torch.contiguous_format if narrow else torch.channels_last


def _is_narrow(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d) or module.weight.device.type != "cpu":
        return False
    return set(module.kernel_size) == {1} and max(module.stride) > 1 and module.weight.shape[1] < NARROW
