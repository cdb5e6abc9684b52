from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoprune.calibration.call import LayerCall
from autoprune.calibration.taps import LayerTap
from tests.small import graph_of

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Conv2d(4, 6, 3), (2, 4, 9, 7)),
    "stride, padding and dilation": (
        lambda: nn.Conv2d(4, 6, (3, 5), stride=(2, 3), padding=(1, 4), dilation=(2, 1)),
        (2, 4, 12, 11),
    ),
    "padding by name": (lambda: nn.Conv2d(4, 6, 4, padding="same", dilation=3), (2, 4, 9, 8)),
    "groups": (lambda: nn.Conv2d(4, 8, 3, groups=2, bias=False), (2, 4, 6, 6)),
    "one dimension": (lambda: nn.Conv1d(4, 6, 3, stride=2), (2, 4, 10)),
    "three dimensions": (lambda: nn.Conv3d(4, 6, 2, padding=1), (2, 4, 4, 5, 3)),
    "transposed": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), padding=1, output_padding=1),
        (2, 4, 5, 6),
    ),
    "linear": (lambda: nn.Linear(4, 6), (2, 3, 5, 4)),
}


def seen(name: str) -> tuple[LayerCall, Tensor]:
    """The only layer call of a network, and its output."""
    make, shape = LAYERS[name]
    model, images = nn.Sequential(make()).eval(), torch.randn(shape)
    calls: list[LayerCall] = []
    with torch.no_grad(), LayerTap(model, graph_of(model, images).layers, calls.append):
        output = model(images)
    (call,) = calls
    return call, output


@pytest.mark.parametrize("name", LAYERS)
def test_the_shape_of_an_output_is_known_before_it_is_computed(name: str) -> None:
    call, output = seen(name)
    assert call.output_shape() == tuple(output.shape)


@pytest.mark.parametrize("name", LAYERS)
def test_a_call_runs_again_with_other_weights(name: str) -> None:
    call, output = seen(name)
    torch.testing.assert_close(call.run(), output)
    bias = None if call.bias is None else torch.zeros_like(call.bias)
    constant = call.run_with(torch.zeros_like(call.weight), call.bias)
    torch.testing.assert_close(call.run_with(call.weight, bias) + constant, output)
