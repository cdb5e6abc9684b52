"""Fourier transforms and complex numbers keep channels apart, unless they run over them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fft, nn

import autoprune

from .helpers import assert_exact, graph_of, image, reasons, widths


class Between(nn.Module):
    """Something between two convolutions of 8 channels on images of 8 by 8 pixels."""

    def __init__(self, inside: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.inside(self.first(x).relu()))
        return found


class GlobalFilter(nn.Module):
    """Every channel is filtered by its own learned spectrum, as in GFNet."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Parameter(torch.randn(8, 8, 5, 2))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = fft.irfft2(fft.rfft2(x) * torch.view_as_complex(self.spectrum), s=(8, 8))
        return found


APART: dict[str, Callable[[Tensor], Tensor]] = {
    "fft2": lambda x: fft.ifft2(fft.fft2(x)).real,
    "rfft": lambda x: fft.irfft(fft.rfft(x), n=8),
    "one dimension": lambda x: fft.fft(x, dim=2).imag,
    "as many as sizes": lambda x: fft.fftn(x, s=(8, 8)).abs(),
    "shift": lambda x: fft.fftshift(fft.fft2(x), dim=(-2, -1)).abs(),
    "real view": lambda x: torch.view_as_real(fft.fft2(x)).sum(-1),
    "conjugate": lambda x: (fft.fft2(x) * fft.fft2(x).conj()).real,
    "polar": lambda x: torch.polar(x.abs(), x).real,
    "complex": lambda x: torch.complex(x, x).abs(),
}
MIXED: dict[str, Callable[[Tensor], Tensor]] = {
    "over channels": lambda x: fft.fft(x, dim=1).real,
    "all dimensions": lambda x: fft.fftn(x).abs(),
    "shift of all": lambda x: fft.fftshift(x),
    "the last two": lambda x: fft.fft2(x.flatten(2)).real.unflatten(2, (8, 8)),
    "the last two by default": lambda x: torch.ops.aten.fft_fft2(x.flatten(2)).real.unflatten(2, (8, 8)),
    "channels as parts": lambda x: (
        torch.view_as_real(torch.view_as_complex(x.movedim(1, -1).unflatten(-1, (4, 2)).contiguous()))
        .flatten(-2)
        .movedim(-1, 1)
    ),
}


@pytest.mark.parametrize("name", APART)
def test_channels_stay_apart(name: str) -> None:
    model = Between(APART[name])
    graph = graph_of(model)
    assert widths(graph) == [8]
    assert_exact(model, graph, (image(),), {})


@pytest.mark.parametrize("name", MIXED)
def test_what_runs_over_channels_keeps_them(name: str) -> None:
    graph = graph_of(Between(MIXED[name]))
    assert all(group.width <= 4 for group in graph.groups) and (graph.groups or reasons(graph))


def test_a_learned_spectrum_is_pruned_with_its_channels() -> None:
    torch.manual_seed(0)
    model = Between(GlobalFilter()).eval()
    images = torch.randn(48, 3, 8, 8)
    wanted = model(images).detach()

    def near(network: nn.Module) -> float:
        return 1.0 - float((network(images) - wanted).square().mean() / wanted.var())

    front = autoprune.search(model, calibration=images, evaluate=near, trials=2)
    point = min(front.trials, key=lambda point: point.macs)
    small = point.build()
    width = small.get_submodule("first").weight.shape[0]
    assert width < 8 and small.get_parameter("inside.spectrum").shape == (width, 8, 5, 2)
    with torch.no_grad():
        assert near(small) == pytest.approx(point.accuracy)
