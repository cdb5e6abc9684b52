"""What a call of a torch function is as a layer's call: run, it gives the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.calibration.call import LayerCall
from autoprune.calibration.taps import LayerTap
from autoprune.graph.groups import Layer, LayerKind
from autoprune.graph.orientation import outputs_first

torch.set_num_threads(1)


class Holder(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, dtype=torch.float64))


def calls(model: nn.Module, layer: Layer, run: Callable[[], Tensor]) -> tuple[list[LayerCall], Tensor]:
    seen: list[LayerCall] = []

    def watch(call: LayerCall) -> None:
        seen.append(call)

    with torch.no_grad(), LayerTap(model, [layer], watch):
        return seen, run()


ROWS = torch.randn(3, 5, dtype=torch.float64)
BIAS = torch.randn(4, dtype=torch.float64)
LINEAR: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda w: F.linear(ROWS, w),
    "linear, bias": lambda w: F.linear(ROWS, w, bias=BIAS),
    "matmul": lambda w: ROWS @ w.t(),
    "addmm": lambda w: torch.addmm(BIAS, ROWS, w.T),
    "einsum": lambda w: torch.einsum("bi,oi->bo", ROWS, w),
    "einsum, list": lambda w: torch.einsum("oi,bi->bo", [w, ROWS]),
}
PRODUCT: dict[str, Callable[[Tensor], Tensor]] = {
    "matmul": lambda w: torch.matmul(ROWS, w),
    "method": lambda w: ROWS.mm(w),
    "addmm": lambda w: BIAS.addmm(ROWS, w),
    "linear": lambda w: F.linear(ROWS, w.mT),
    "einsum": lambda w: torch.einsum("bi,io->bo", ROWS, w),
}
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "from the left": lambda w: w @ ROWS.t(),
    "scaled": lambda w: torch.addmm(BIAS, ROWS, w.t(), alpha=2),
    "written into a tensor": lambda w: torch.matmul(ROWS, w.t(), out=ROWS.new_empty(3, 4)),
    "part": lambda w: ROWS @ w[:2].t(),
    "changed": lambda w: F.linear(ROWS, w * 2),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_map_is_seen_however_it_is_written(name: str) -> None:
    model, layer = Holder(4, 5), Layer("w", LayerKind.LINEAR, "weight", None, (4, 5), 1, 1)
    seen, output = calls(model, layer, lambda: LINEAR[name](model.weight))
    assert seen[0].weight.equal(model.weight) and len(seen) == 1
    torch.testing.assert_close(seen[0].run(), output)


@pytest.mark.parametrize("name", PRODUCT)
def test_a_product_is_a_linear_map_by_the_transpose(name: str) -> None:
    model, layer = Holder(5, 4), Layer("w", LayerKind.PRODUCT, "weight", None, (5, 4), 1, 1)
    seen, output = calls(model, layer, lambda: PRODUCT[name](model.weight))
    assert seen[0].weight.equal(model.weight.t()) and len(seen) == 1
    torch.testing.assert_close(seen[0].run(), output)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_linear_map_by_the_weight_is_not_seen(name: str) -> None:
    model, layer = Holder(4, 5), Layer("w", LayerKind.LINEAR, "weight", None, (4, 5), 1, 1)
    assert not calls(model, layer, lambda: OTHERS[name](model.weight))[0]


def test_a_tied_weight_is_seen_in_the_direction_that_its_layer_has() -> None:
    model, layer = Holder(4, 5), Layer("w", LayerKind.LINEAR, "weight", None, (4, 5), 1, 1)
    seen, _ = calls(model, layer, lambda: F.linear(ROWS, model.weight) @ model.weight)
    assert [call.input.shape for call in seen] == [(3, 5)]


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(3, 4, 1), (1, 4, 1), (4, 1, 1), (4, 4, 4)])
def test_turning_twice_changes_nothing(inputs: int, outputs: int, groups: int) -> None:
    conv = nn.ConvTranspose2d(inputs, outputs, (2, 3), groups=groups)
    shape = tuple(conv.weight.shape)
    layer = Layer("w", LayerKind.CONV_TRANSPOSE, "weight", None, shape, groups, 1)
    turned = outputs_first(layer, conv.weight)
    assert turned.shape == (outputs, inputs // groups, 2, 3)
    assert outputs_first(layer, turned).equal(conv.weight)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_what_a_recurrent_layer_makes_of_its_input_is_seen(kind: type[nn.RNNBase]) -> None:
    model = kind(5, 3, bidirectional=True, num_layers=2).double()
    name = "weight_ih_l0_reverse"
    shape = tuple(model.get_parameter(name).shape)
    layer = Layer(name, LayerKind.LINEAR, name, "bias_ih_l0_reverse", shape, 1, 1)
    images = torch.randn(6, 2, 5, dtype=torch.float64)
    seen, output = calls(model, layer, lambda: model(images)[0])
    assert (
        len(seen) == 1 and seen[0].input is images and seen[0].bias is model.get_parameter(layer.bias or "")
    )
    torch.testing.assert_close(output, model(images)[0])
