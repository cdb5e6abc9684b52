"""Products with a weight, however they are written, are one of two kinds of layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import LayerKind, count_macs, find_groups
from autoprune.graph.equations import LinearMap, linear_map
from autoprune.graph.slicing import Slicer

ROWS = torch.randn(4, 7, 5)


class Two(nn.Module):
    """`product` by a weight (6, 5) or (5, 6), then a linear layer."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, int]) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(shape)), nn.Linear(6, 3)
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        head: Tensor = self.head(self.product(x, self.weight).relu())
        return head


OUTPUTS_FIRST: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": F.linear,
    "t": lambda x, w: x @ w.t(),
    "T": lambda x, w: torch.matmul(x, w.T),
    "mT": lambda x, w: x.matmul(w.mT),
    "transpose": lambda x, w: x @ w.transpose(0, 1),
    "permute": lambda x, w: x @ w.permute(1, 0),
    "twice": lambda x, w: F.linear(x, w.t().t()),
    "einsum": lambda x, w: torch.einsum("btk,nk->btn", x, w),
    "weight first": lambda x, w: torch.einsum("nk,btk->btn", w, x),
    "mm": lambda x, w: torch.mm(x.flatten(0, 1), w.t()).unflatten(0, x.shape[:2]),
}
INPUTS_FIRST: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "matmul": lambda x, w: x @ w,
    "linear": lambda x, w: F.linear(x, w.t()),
    "bias": lambda x, w: F.linear(x, w.T, torch.ones(w.shape[1])),
    "einsum": lambda x, w: torch.einsum("btk, kn -> btn", x, w),
    "addmm": lambda x, w: torch.addmm(x.new_zeros(()), x.flatten(0, 1), w).unflatten(0, x.shape[:2]),
}


@pytest.mark.parametrize(
    ("first", "name"),
    [*(("outputs", name) for name in OUTPUTS_FIRST), *(("inputs", name) for name in INPUTS_FIRST)],
)
def test_a_product_is_a_layer_that_can_be_sliced(first: str, name: str) -> None:
    products, shape = (OUTPUTS_FIRST, (6, 5)) if first == "outputs" else (INPUTS_FIRST, (5, 6))
    model = Two(products[name], shape).eval()
    graph = find_groups(model, (ROWS[:1],))
    layer = graph.layers[0]
    assert layer.kind is (LayerKind.LINEAR if first == "outputs" else LayerKind.PRODUCT)
    assert (layer.name, layer.shape) == ("weight", shape) and layer.macs_per_weight == 7
    if name != "bias":  # a constant of the forward's own keeps its size
        assert graph.widths == {"weight": 6}
        pruned = Slicer(model, graph).build({"weight": torch.tensor([1, 4])})
        assert pruned(ROWS).shape == (4, 7, 3)
        assert count_macs(pruned, (ROWS[:1],)) == 7 * 2 * (5 + 3)


def test_a_transposition_of_a_square_weight_is_seen() -> None:
    model = Two(lambda x, w: x @ w.t(), (5, 5))
    model.head = nn.Linear(5, 3)
    kinds = [find_groups(model.eval(), (ROWS[:1],)).layers[0].kind]
    model.product = lambda x, w: x @ w.permute(0, 1)
    assert [*kinds, find_groups(model, (ROWS[:1],)).layers[0].kind] == [LayerKind.LINEAR, LayerKind.PRODUCT]


@pytest.mark.parametrize(
    ("equation", "found"),
    [
        ("bti,oi->bto", LinearMap(1, False)),
        ("bi,io->bo", LinearMap(1, True)),
        ("oi,bi->bo", LinearMap(0, False)),
        ("...i,oi->...o", LinearMap(1, False)),
        ("ab,bc->ac", LinearMap(1, True)),
        ("bi,oi->ob", LinearMap(0, False)),
        ("bi,bi->b", None),
        ("bio,io->bo", None),
        ("bi,oi,o->bo", None),
        ("bti,oi", None),
        ("bi,ii->bi", None),
    ],
)
def test_equations_that_are_a_linear_map(equation: str, found: LinearMap | None) -> None:
    assert linear_map(equation) == found


def test_one_column_is_turned_too() -> None:
    model = Two(lambda x, w: x[..., :1] @ w.t(), (6, 1)).eval()
    graph = find_groups(model, (ROWS[:1],))
    assert graph.layers[0].kind is LayerKind.LINEAR and graph.widths == {"weight": 6}


class Added(nn.Module):
    def __init__(self, size: tuple[int, ...], turned: bool) -> None:
        super().__init__()
        self.bias, self.turned, self.head = nn.Parameter(torch.ones(size)), turned, nn.Linear(6, 3)
        self.weight = nn.Parameter(torch.randn((6, 5) if turned else (5, 6)))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.t() if self.turned else self.weight
        head: Tensor = self.head(torch.addmm(self.bias, x.flatten(0, 1), weight).relu())
        return head


@pytest.mark.parametrize(("size", "turned"), [((), False), ((1,), False), ((6,), False), ((6,), True)])
def test_what_is_added_may_be_one_value_for_all(size: tuple[int, ...], turned: bool) -> None:
    model = Added(size, turned).eval()
    graph = find_groups(model, (ROWS[:1],))
    assert graph.widths == {"weight": 6} and graph.layers[0].bias == ("bias" if size == (6,) else None)
    pruned = Slicer(model, graph).build({"weight": torch.tensor([1, 4])})
    assert pruned.bias.shape == ((2,) if size == (6,) else size) and pruned(ROWS).shape == (28, 3)


@pytest.mark.parametrize("size", [(), (1,)])
def test_one_value_beside_a_turned_weight_leaves_all_dense(size: tuple[int, ...]) -> None:
    assert not find_groups(Added(size, True).eval(), (ROWS[:1],)).groups
