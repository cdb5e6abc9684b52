"""A promise is kept before anything reads its values, and never computed for nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.calibration.call import LayerCall
from autoprune.calibration.deferral import Deferred
from autoprune.calibration.flow import Branch, Clamp, FlowHandler, FlowTap
from autoprune.graph import find_groups
from tests.small import NETWORKS, conv


class Lazy(FlowHandler):
    """Has no layer computed before something asks for it."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.sums: list[str] = []

    def on_layer(self, call: LayerCall) -> None:
        original = LayerCall.run
        # The tap runs the call when somebody asks.
        object.__setattr__(call, "run", lambda: self.runs.append(call.layer.name) or original(call))

    def on_sum(self, branch: Branch, other: Tensor, total: Callable[[], Tensor]) -> None:
        self.sums.append(branch.call.layer.name)


class Odd(nn.Module):
    """Reads a layer's output in ways that no batch norm and no sum is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = conv(3, 6), conv(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        y = self.second(x)
        assert y.shape == x.shape and y.dim() == 4 and y.dtype == x.dtype and y.size(1) == 6
        y = y + 0.5
        z = self.second[0](x)
        z.add_(y)
        z *= 2
        both = torch.cat([y, z.sin()])[: len(x)]
        out: Tensor = self.head((both + x).mean((2, 3)))
        return out


@pytest.mark.parametrize("name", [*NETWORKS, "odd"])
@torch.no_grad()
def test_a_network_with_promised_layers_computes_the_same(name: str) -> None:
    if name == "odd":
        torch.manual_seed(0)
        model, images = Odd().eval(), torch.randn(4, 3, 6, 6)
    else:
        model, images = NETWORKS[name].model(), NETWORKS[name].images(4)
    layers = find_groups(model, (images[:1],)).layers
    dense, handler = model(images), Lazy()
    with FlowTap(model, layers, handler) as tap:
        # The fused attention, which hides its linear maps, rounds differently from its parts.
        rounding = 1e-6 if name == "heads" else 0
        torch.testing.assert_close(model(images), dense, rtol=rounding, atol=rounding)
    assert not tap._open and not tap._deferred._makers and not tap._deferred._values


def test_what_nobody_reads_is_not_computed_and_what_many_read_is_computed_once() -> None:
    deferred, made = Deferred(), []

    def make() -> Tensor:
        made.append(1)
        return torch.ones(2, 3)

    promised = deferred.promise(make, (2, 3), torch.zeros(1))
    doubled = deferred.mapped(promised, lambda value: value * 2)
    assert promised.shape == doubled.shape == (2, 3) and not made
    (value,), rest = deferred.computed(([doubled], {"x": 3}))
    assert value.sum() == 12 and rest == {"x": 3}
    assert deferred.computed(promised).sum() == 6 and deferred.computed(doubled) is value
    assert len(made) == 1
    del promised, doubled
    assert not deferred._makers and not deferred._values, "a promise that is gone leaves nothing behind"


def test_writing_into_a_promise_is_seen_by_all_who_hold_it() -> None:
    deferred = Deferred()
    promised, plain = deferred.promise(lambda: torch.ones(2), (2,), torch.zeros(1)), torch.zeros(2)
    assert deferred.overwritten(promised, torch.full((2,), 7.0)).sum() == 14
    assert deferred.computed(promised).sum() == 14
    assert deferred.overwritten(plain, torch.ones(2)) is plain and plain.sum() == 2


class Clamps(FlowHandler):
    def __init__(self) -> None:
        self.seen: list[tuple[str, Clamp, bool, bool]] = []
        self.used: list[str] = []

    def on_clamp(self, branch: Branch, clamp: Clamp) -> None:
        self.seen.append((branch.call.layer.name, clamp, branch.affine is not None, branch.summed))

    def on_use(self, branch: Branch) -> None:
        self.used.append(branch.call.layer.name)


@torch.no_grad()
def test_clamps_are_seen_behind_norms_and_sums_and_other_readers_are_reported() -> None:
    relu, small = Clamp(), NETWORKS["residual"]
    model, images = small.model(), small.images(4)
    handler = Clamps()
    with FlowTap(model, find_groups(model, (images[:1],)).layers, handler):
        model(images)
    assert handler.seen == [
        ("stem.0", relu, True, False),
        ("a1.0", relu, True, False),
        ("a2.0", relu, True, True),
        ("b1.0", relu, True, False),
        ("b2.0", relu, True, True),
    ]

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            out: Tensor = self.second(F.hardtanh(x, 0.0, 3.0)) + x.exp()
            return out.mean((2, 3))

    twice, seen = Twice().eval(), Clamps()
    with FlowTap(twice, find_groups(twice, (images[:1],)).layers, seen):
        twice(images)
    assert seen.seen == [("first", Clamp(0.0, 3.0), False, False)] and "first" in seen.used
