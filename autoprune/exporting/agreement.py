"""Whether a network that was read back computes what the original computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.errors import DataError, ExportError
from autoprune.exporting.base import Runner, output_tensors


def samples(inputs: Inputs, count: int) -> Inputs:
    """`count` samples; where there are fewer, they repeat."""
    if inputs.size == 0:
        raise DataError("an export needs at least one example input, got a batch of none.")
    return inputs.select(torch.arange(count) % inputs.size)


@torch.no_grad()
def differences(network: nn.Module, run: Runner, batches: Sequence[Inputs]) -> dict[int, float]:
    """Per batch size the largest relative difference of any output. ExportError for outputs not finite."""
    found: dict[int, float] = {}
    for batch in batches:
        with _plain_attention():
            wanted, answer = output_tensors(batch.call(network)), run(batch)
        if not wanted or not all(bool(torch.isfinite(value).all()) for value in wanted):
            raise ExportError(
                "the network's own outputs on the example inputs hold no tensor, or values that are not "
                "finite; an export of it could not be checked."
            )
        found[batch.size] = difference(answer, wanted)
    return found


def coarsest(network: nn.Module, inputs: Inputs) -> float:
    """The relative step between the coarsest numbers among the network's weights and inputs."""
    tensors = [*network.parameters(), *network.buffers(), *inputs.tensors]
    steps = (torch.finfo(x.dtype).eps for x in tensors if x.is_floating_point() or x.is_complex())
    return max(steps, default=0.0)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """PyTorch's fused attention off: no export holds it, and in ViT-B/16 it rounds 8e-7 otherwise."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """max |found - wanted| / max |wanted|, the worst of all outputs; infinite where there is no telling."""
    if len(found) != len(wanted):
        return float("inf")
    return max(map(_difference, found, wanted))


def _difference(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    if wanted.numel() == 0:
        return 0.0
    exact = torch.complex128 if found.is_complex() or wanted.is_complex() else torch.float64
    apart = float((found.to(exact) - wanted.to(exact)).abs().max())
    scale = float(wanted.to(exact).abs().max())
    if apart == 0.0:
        return 0.0
    # NaN, which no comparison finds too large, must not pass.
    return apart / scale if scale > 0 and apart == apart else float("inf")
