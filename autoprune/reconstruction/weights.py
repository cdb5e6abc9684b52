"""Put new weights and constants into a sliced network."""

from __future__ import annotations

from torch import Tensor, nn

from autoprune.graph.groups import Layer
from autoprune.graph.orientation import outputs_first


def weight_of(network: nn.Module, layer: Layer) -> Tensor:
    """The weight that the layer has now, (outputs, inputs per group, *kernel)."""
    return outputs_first(layer, network.get_parameter(layer.weight))


def set_weight(network: nn.Module, layer: Layer, weight: Tensor) -> None:
    """Replace the layer's weight by as many elements with outputs first, in the weight's own type."""
    parameter = network.get_parameter(layer.weight)
    turned = outputs_first(layer, weight.reshape(weight_of(network, layer).shape))
    parameter.data = turned.to(parameter.dtype).contiguous()


def add_constant(network: nn.Module, layer: Layer, constant: Tensor) -> None:
    """Add `constant` (out,) to the layer's output: through its bias, or the mean of the norm behind it."""
    if layer.bias is not None:
        bias = network.get_parameter(layer.bias)
        bias.data = (bias.double() + constant).to(bias.dtype)
    elif layer.norm is not None:
        norm = network.get_submodule(layer.norm)
        mean = norm.get_buffer("running_mean")
        norm._buffers["running_mean"] = (mean.double() - constant).to(mean.dtype)
