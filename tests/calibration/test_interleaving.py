"""Passes side by side: which networks allow them, and that calibration follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoprune
from autoprune.calibration.interleaving import interleaves
from autoprune.data.inputs import Inputs
from autoprune.searching.calibrating import rechunked
from tests.small import NETWORKS


class Block(nn.Module):
    """A residual block whose shortcut travels in a local variable."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.relu(self.a(x))
        return self.top(F.relu(self.b(shortcut)), shortcut)

    def top(self, x: Tensor, shortcut: Tensor) -> Tensor:
        head: Tensor = self.head((x + shortcut).mean((2, 3)))
        return head


class OnSelf(Block):
    def forward(self, x: Tensor) -> Tensor:
        self.shortcut = F.relu(self.a(x))
        out = F.relu(self.b(self.shortcut))
        return self.top(out, self.shortcut)


class InDict(Block):
    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.kept["shortcut"] = F.relu(self.a(x))
        out = F.relu(self.b(self.kept["shortcut"]))
        return self.top(out, self.kept["shortcut"])


SEEN: dict[str, Tensor] = {}


def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
    SEEN["shortcut"] = output


class ByHook(Block):
    def __init__(self) -> None:
        super().__init__()
        self.a.register_forward_hook(note)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.b(F.relu(self.a(x))))
        return self.top(out, F.relu(SEEN["shortcut"]))


class Caching(Block):
    """Makes a table the first time: later passes call fewer functions, and nothing is mixed up."""

    table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(0, 1, x.shape[-1]).cumsum(0)
        return super().forward(x + self.table)


def made(kind: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


STASHING = [OnSelf, InDict, ByHook]


@pytest.mark.parametrize("kind", STASHING)
def test_what_a_forward_keeps_elsewhere_is_noticed(kind: Callable[[], nn.Module]) -> None:
    one, other = (Inputs((torch.randn(1, 3, 8, 8),)) for _ in range(2))
    assert not interleaves(made(kind), one, other)


@pytest.mark.parametrize("name", NETWORKS)
def test_passes_of_ordinary_networks_take_turns(name: str) -> None:
    small = NETWORKS[name]
    one, other = Inputs((small.images(2)[:1],)), Inputs((small.images(2)[1:],))
    model = small.model()
    assert interleaves(model, one, other)
    # Threads have a precision of their own.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert interleaves(model, one, other)


def test_a_cache_that_shortens_later_passes_does_not_hang() -> None:
    one, other = (Inputs((torch.randn(1, 3, 8, 8),)) for _ in range(2))
    assert interleaves(made(Caching), one, other)


def test_a_network_that_fails_is_others_concern() -> None:
    wrong = Inputs((torch.randn(1, 5, 8, 8),))
    assert interleaves(made(Block), wrong, wrong)


@pytest.mark.parametrize("kind", STASHING)
def test_a_search_finds_what_it_finds_with_a_local_variable(kind: Callable[[], nn.Module]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(400, 3, 40, 40, generator=generator)
    assert len(rechunked([Inputs((images,))], made(Block))) > 1
    assert len(rechunked([Inputs((images,))], made(kind))) == 1
    errors = [
        [point.output_error for point in front_of(made(network), images).trials] for network in (Block, kind)
    ]
    # Their second moments are added up in chunks, or at once.
    assert errors[1] == pytest.approx(errors[0], rel=0.05)


def front_of(network: nn.Module, images: Tensor) -> autoprune.Front:
    with torch.no_grad():
        labels = network(images[:64]).argmax(1)
    return autoprune.search(network, calibration=images, validation=[(images[:64], labels)], trials=2)
