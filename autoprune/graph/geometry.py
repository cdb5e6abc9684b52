"""Sizes that modules remember beside their tensors, brought in line with sliced tensors."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


def update_attributes(module: nn.Module, original: nn.Module) -> None:
    """Set `in_channels`, `num_features`, ... of `module` from its tensors; `original` is its dense twin."""
    if isinstance(module, _ConvNd) and isinstance(original, _ConvNd):
        _update_convolution(module, original)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _NormBase):
        for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
            module.num_features = module.num_features if tensor is None else tensor.shape[0]
    elif isinstance(module, nn.GroupNorm) and isinstance(original, nn.GroupNorm):
        together = original.num_channels // original.num_groups
        module.num_channels = module.weight.shape[0]
        module.num_groups = module.num_channels // together
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        module.embedding_dim = module.weight.shape[1]
    elif isinstance(module, nn.RNNBase):
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
        # A list of its own, beside the table of parameters.
        module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
    elif isinstance(module, nn.RNNCellBase):
        module.input_size = module.weight_ih.shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.numel()


def _update_convolution(module: _ConvNd, original: _ConvNd) -> None:
    transposed = isinstance(module, _ConvTransposeNd)
    first, second = module.weight.shape[:2]
    if original.groups > 1 and original.groups == original.in_channels:
        # Depthwise: one group per channel that is left.
        module.groups = first * original.groups // original.weight.shape[0]
    if transposed:
        module.in_channels, module.out_channels = first, second * module.groups
    else:
        module.out_channels, module.in_channels = first, second * module.groups
