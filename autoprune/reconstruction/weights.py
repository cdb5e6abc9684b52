"""Put new weights and constants into a sliced network."""

from __future__ import annotations

from torch import Tensor, nn

from autoprune.graph.groups import Layer


def set_weight(network: nn.Module, layer: Layer, weight: Tensor) -> None:
    """Replace the layer's weight by a tensor with as many elements, in the weight's own type."""
    parameter = network.get_parameter(layer.weight)
    parameter.data = weight.reshape(parameter.shape).to(parameter.dtype)


def add_constant(network: nn.Module, layer: Layer, constant: Tensor) -> None:
    """Add `constant` (out,) to the layer's output: through its bias, or the mean of the norm behind it."""
    if layer.bias is not None:
        bias = network.get_parameter(layer.bias)
        bias.data = (bias.double() + constant).to(bias.dtype)
    elif layer.norm is not None:
        norm = network.get_submodule(layer.norm)
        mean = norm.get_buffer("running_mean")
        norm._buffers["running_mean"] = (mean.double() - constant).to(mean.dtype)
