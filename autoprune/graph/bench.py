"""A bench for rule 1: the model in float64 with random statistics, run masked and run sliced.

Weights of zero and untouched batch norms would hide a wrong channel, so they are made random; batch
norms are set to the statistics of the bench's own input, which keeps magnitudes sane at any depth.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from autoprune.errors import ModelError
from autoprune.graph.capture import first_line, named_state
from autoprune.graph.groups import ChannelGraph, Kept, Role
from autoprune.graph.slicing import Slicer, mask_consumers

Inputs = tuple[tuple[Any, ...], dict[str, Any]]

_FLOAT32_TOLERANCE = 1e-3
_REPEATS = 1e-4
"""Relative difference that the order of sums on many threads may make between two runs."""


@dataclass(frozen=True)
class Difference:
    """Of one candidate: the greatest relative difference between masked and sliced outputs, or why the
    sliced network cannot run; and the relative change from dense to masked (0: nothing was tested)."""

    relative_error: float
    effect: float
    failure: str | None = None


class Bench:
    """Runs candidates of one model masked and sliced on the same input, without copying it each time."""

    def __init__(
        self,
        model: nn.Module,
        graph: ChannelGraph,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        shrink: bool = False,
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.network, self.inputs, self.dense = _prepare(model, (args, dict(kwargs)), shrink, seed)
        self.skeleton = _share(self.network)
        self._slicer = Slicer(self.network, graph)
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def tolerance_floor(self) -> float:
        """The least relative error that means anything in the precision of the bench."""
        coarse = any(_is_coarse(tensor) for tensor in self.network.parameters())
        return _FLOAT32_TOLERANCE if coarse else 0.0

    def random_kept(self, names: list[str], removed: float = 0.4) -> dict[str, Tensor]:
        """Random channels to keep in the named groups: of each about a share `removed` is gone, more of one
        than of another, for what has to be of one size must not be so by chance; or all but one channel."""
        kept = {}
        for name in names:
            width = self.graph[name].width
            factor = 0.5 + float(torch.rand((), generator=self._generator))
            gone = removed * factor if removed < 1 else 1.0
            stay = min(width - 1, max(1, round(width * (1 - gone))))
            kept[name] = torch.randperm(width, generator=self._generator)[:stay].sort().values
        return kept

    def difference(self, kept: Kept) -> Difference:
        """Masked against sliced outputs for one candidate."""
        try:
            sliced = self._sliced(kept)
        except Exception as error:
            return Difference(float("inf"), 0.0, f"{type(error).__name__}: {first_line(error)}")
        masked = self._masked(kept)
        return Difference(relative_difference(masked, sliced), relative_difference(self.dense, masked))

    def _masked(self, kept: Kept) -> list[Tensor]:
        state = named_state(self.network)
        touched = {member.tensor for name in kept for member in self.graph[name].of_role(Role.CONSUMER)}
        with _restored({name: state[name] for name in touched}):
            mask_consumers(self.network, self.graph, kept)
            return run(self.network, self.inputs)

    def _sliced(self, kept: Kept) -> list[Tensor]:
        tensors = self._slicer.state(kept, touched_only=True)
        state = named_state(self.network)
        try:
            self._slicer.apply(self.skeleton, tensors, kept)
            return run(self.skeleton, self.inputs)
        finally:
            self._slicer.apply(self.skeleton, {name: state[name].detach() for name in tensors}, {})


@contextmanager
def _restored(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    saved = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(saved[name])


def relative_difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """Greatest difference of any output, relative to its greatest magnitude; inf if sizes differ."""
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in found]:
        return float("inf")
    return max((_relative(a, b) for a, b in zip(expected, found, strict=True) if a.numel()), default=0.0)


def _relative(expected: Tensor, found: Tensor) -> float:
    if not (expected.is_floating_point() or expected.is_complex()):
        return 0.0 if torch.equal(expected, found) else float("inf")
    finite = expected.isfinite()
    if not finite.equal(found.isfinite()):
        return float("inf")
    # What is no number in both, such as a vector of zeros over its length, is as it should be.
    difference = float((expected - found)[finite].abs().amax()) if finite.any() else 0.0
    scale = float(expected[finite].abs().amax()) if finite.any() else 0.0
    return difference / scale if scale else (0.0 if difference == 0 else float("inf"))


@torch.no_grad()
def run(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """All tensors in the model's output, in order."""
    args, kwargs = inputs
    leaves = pytree.tree_leaves(model(*args, **kwargs))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _prepare(
    model: nn.Module, example: Inputs, shrink: bool, seed: int
) -> tuple[nn.Module, Inputs, list[Tensor]]:
    """The first of several benches, from strict to lenient, that runs dense and gives finite outputs."""
    problem = "no attempt"
    for dtype in (torch.float64, None):
        for randomise in (True, False):
            network = _random_network(model, dtype, seed) if randomise else _copied(model, dtype)
            for inputs in _inputs(example, dtype, shrink, seed):
                try:
                    if randomise:
                        _fit_batch_norms(network, inputs, seed)
                    dense = run(network, inputs)
                except Exception as error:
                    problem = f"{type(error).__name__}: {first_line(error)}"
                    continue
                if all(map(_is_finite, dense)) and any(map(_says_something, dense)):
                    _check_repeats(network, inputs, dense)
                    return network, inputs, dense
                problem = "outputs that are missing, not finite, or all the same"
    raise ModelError(
        f"wanted {type(model).__name__} to run on random inputs of the example's size, to check the channel "
        f"groups; got {problem}. Check that the model gives finite outputs on noise."
    )


def _check_repeats(network: nn.Module, inputs: Inputs, dense: list[Tensor]) -> None:
    if relative_difference(dense, run(network, inputs)) > _REPEATS:
        raise ModelError(
            f"{type(network).__name__} gives another output each time it runs on the same input in eval "
            "mode, so no two networks can be compared; take what is random out of its forward."
        )


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _says_something(tensor: Tensor) -> bool:
    """Whether it is not all the same number; a network may return such a one beside others."""
    return tensor.numel() < 2 or not tensor.is_floating_point() or bool(tensor.max() > tensor.min())


def _inputs(example: Inputs, dtype: torch.dtype | None, shrink: bool, seed: int) -> Iterator[Inputs]:
    """Random inputs: two different examples (a batch size written into the forward shows), then as given."""
    for scale in (0.25, 0.5, 1.0) if shrink else (1.0,):
        for batch in (2, 1):
            draw = partial(_random_like, dtype, batch, scale, torch.Generator().manual_seed(seed))
            yield pytree.tree_map_only(Tensor, draw, example)
    yield pytree.tree_map_only(Tensor, partial(_in_dtype, dtype), example)


def _is_coarse(tensor: Tensor) -> bool:
    """Whether its numbers have fewer digits than float64."""
    real = tensor.is_floating_point() or tensor.is_complex()
    return real and torch.finfo(tensor.dtype).eps > torch.finfo(torch.float64).eps


def _in_dtype(dtype: torch.dtype | None, tensor: Tensor) -> Tensor:
    return tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor


def _random_like(
    dtype: torch.dtype | None, batch: int, scale: float, generator: torch.Generator, tensor: Tensor
) -> Tensor:
    shape = list(tensor.shape)
    if shape and shape[0] == 1:
        shape[0] = batch
    if not tensor.is_floating_point():
        return tensor.expand(shape)
    if len(shape) == 4 and min(shape[2:]) * scale >= 32:
        shape[2:] = [int(size * scale) for size in shape[2:]]
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return noise.to(device=tensor.device, dtype=dtype or tensor.dtype)


def _copied(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """A copy in eval mode, floating-point state in `dtype` (its own where None)."""
    memo: dict[int, Any] = {}
    for tensor in named_state(model).values():
        found = tensor.detach().clone()
        found = _in_dtype(dtype, found)
        memo[id(tensor)] = (
            nn.Parameter(found, requires_grad=False) if isinstance(tensor, nn.Parameter) else found
        )
    return copy.deepcopy(model, memo).eval()


def _share(network: nn.Module) -> nn.Module:
    """A second module on the same tensors, whose entries can be exchanged."""
    return copy.deepcopy(network, {id(tensor): tensor for tensor in named_state(network).values()})


def _random_network(model: nn.Module, dtype: torch.dtype | None, seed: int) -> nn.Module:
    """A copy whose constant parameters (zeros, ones, a small layer scale) are random."""
    network = _copied(model, dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter in network.parameters():
        constant = parameter.numel() > 1 and bool((parameter == parameter.reshape(-1)[0]).all())
        if constant and parameter.is_floating_point():
            parameter.copy_(_random_constant(parameter, generator))
    return network


def _random_constant(parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Around 1 for a scale, around 0 for a bias, of unit gain for a matrix."""
    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    if parameter.dim() > 1 and parameter[0].numel() > 1:
        return noise.mul(parameter[0].numel() ** -0.5)
    return noise * 0.2 + (1.0 if bool(parameter.reshape(-1)[0] > 0) else 0.0)


def _fit_batch_norms(network: nn.Module, inputs: Inputs, seed: int) -> None:
    """Set running statistics to those of `inputs`, disturbed at random."""
    generator = torch.Generator().manual_seed(seed + 2)

    def fit(module: _BatchNorm, args: tuple[Tensor, ...]) -> None:
        if module.running_mean is None or module.running_var is None:
            return
        dims = [dim for dim in range(args[0].dim()) if dim != 1]
        variance, mean = torch.var_mean(args[0], dims, correction=0)
        spread = variance.mean() * 0.1 + variance + 1e-3
        noise = torch.rand((2, *mean.shape), generator=generator, dtype=torch.float64).to(mean)
        module.running_mean.copy_(mean + (noise[0] - 0.5) * spread.sqrt())
        module.running_var.copy_(spread * (0.5 + noise[1]))

    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    handles = [norm.register_forward_pre_hook(fit) for norm in norms]
    try:
        run(network, inputs)
    finally:
        for handle in handles:
            handle.remove()
