"""The state of a network as it is stored: each tensor once, on the CPU, in memory of its own."""

from __future__ import annotations

from torch import Tensor, nn

from autoprune.graph.capture import named_state


def persistent_names(model: nn.Module) -> list[str]:
    """Names of the state tensors that a state dict holds, each tensor once, under its first name."""
    held = {id(value) for value in model.state_dict(keep_vars=True).values()}
    return [name for name, tensor in named_state(model).items() if id(tensor) in held]


def tensor_of(network: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of this name: a layer's weight may be either."""
    path, _, own = name.rpartition(".")
    found = network.get_submodule(path)._parameters.get(own)
    return network.get_buffer(name) if found is None else found


def stored_state(network: nn.Module) -> dict[str, Tensor]:
    """Tensors ready for safetensors, by their first names."""
    state = named_state(network)
    # A clone, because safetensors refuses tensors that share memory.
    return {name: state[name].detach().cpu().contiguous().clone() for name in persistent_names(network)}
