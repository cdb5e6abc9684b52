from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from autoprune.calibration.call import LayerCall
from autoprune.calibration.columns import (
    Grid,
    from_raw,
    grid_steps,
    input_columns,
    output_columns,
    positions,
    raw_columns,
    steps_of,
    to_raw,
)
from autoprune.calibration.taps import LayerTap
from autoprune.graph.groups import Layer, LayerKind

torch.set_num_threads(1)

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "plain": (lambda: nn.Conv2d(3, 4, 3), (3, 7, 6)),
    "stride": (lambda: nn.Conv2d(3, 4, 3, stride=(2, 3), padding=(1, 2)), (3, 9, 8)),
    "dilation": (lambda: nn.Conv2d(3, 4, (3, 2), dilation=(2, 3), padding=2, bias=False), (3, 9, 8)),
    "groups": (lambda: nn.Conv2d(6, 4, 3, groups=2, padding=1), (6, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, stride=2), (4, 7, 7)),
    "same": (lambda: nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2)), (3, 6, 7)),
    "valid": (lambda: nn.Conv2d(3, 4, 2, padding="valid"), (3, 4, 4)),
    "reflect": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 5, 5)),
    "one pixel": (lambda: nn.Conv2d(3, 4, 3), (3, 3, 3)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 11)),
    "conv3d": (lambda: nn.Conv3d(2, 4, (2, 3, 1), stride=(1, 2, 1), padding=(1, 0, 0)), (2, 4, 5, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1), (3, 5, 4)),
    "blocks": (lambda: nn.ConvTranspose2d(3, 4, 2, 2, bias=False), (3, 4, 3)),
    "gaps": (lambda: nn.ConvTranspose2d(3, 4, (1, 2), (3, 2), (1, 0), dilation=(1, 2)), (3, 4, 3)),
    "transposed depthwise": (lambda: nn.ConvTranspose2d(4, 4, 3, 2, groups=4), (4, 4, 5)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(3, 4, 4, 2, 1), (3, 6)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 3, (2, 1, 3), (2, 1, 1)), (2, 3, 2, 2)),
    "linear": (lambda: nn.Linear(5, 4), (5,)),
    "tokens": (lambda: nn.Linear(5, 4, bias=False), (7, 5)),
    "planes": (lambda: nn.Linear(5, 4), (3, 4, 5)),
}


def record(layer: nn.Module, images: Tensor) -> tuple[LayerCall, Tensor]:
    kind = LayerKind.LINEAR if isinstance(layer, nn.Linear) else LayerKind.CONV
    kind = LayerKind.CONV_TRANSPOSE if isinstance(layer, _ConvTransposeNd) else kind
    weight = layer.get_parameter("weight")
    known = Layer("layer", kind, "weight", None, tuple(weight.shape), getattr(layer, "groups", 1), 1)
    seen: list[LayerCall] = []
    with torch.no_grad(), LayerTap(layer, [known], seen.append):  # type: ignore[arg-type]
        output = layer(images)
    (call,) = seen
    return call, output


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_weight_times_columns_is_the_output(name: str) -> None:
    factory, shape = LAYERS[name]
    torch.manual_seed(0)
    layer = factory().double()
    call, output = record(layer, torch.randn(3, *shape, dtype=torch.float64))
    bias = 0 if call.bias is None else call.bias[:, None]
    for steps, offset in itertools.product(((), (2, 1, 3), (3, 3, 3), (1, 5), (20,) * 3), (0, 1, 2, 7, 31)):
        grid = Grid(steps, offset)
        inputs = input_columns(call, grid)
        weight = call.weight.reshape(call.groups, -1, inputs.shape[1])
        wanted = output_columns(call, output, grid)
        assert wanted.shape[1] > 0, "an image always gives at least one column"
        torch.testing.assert_close((weight @ inputs).flatten(0, 1) + bias, wanted)
        torch.testing.assert_close(call.run(), output)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_a_weight_in_raw_order_gives_the_output_from_raw_columns(name: str) -> None:
    factory, shape = LAYERS[name]
    call, output = record(factory().double(), torch.randn(2, *shape, dtype=torch.float64))
    raw = to_raw(call, call.weight)
    bias = 0 if call.bias is None else call.bias[:, None]
    found = (raw @ raw_columns(call, Grid())).flatten(0, 1) + bias
    torch.testing.assert_close(found, output_columns(call, output, Grid()))
    assert torch.equal(from_raw(call, raw).reshape(call.weight.shape), call.weight)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_the_offsets_of_one_step_cover_every_position_once(name: str) -> None:
    factory, shape = LAYERS[name]
    call, output = record(factory(), torch.randn(2, *shape))
    sizes = positions(call, output)
    steps = (2, 1, 3)[: len(sizes)]
    offsets = range(math.prod(steps))
    counts = [output_columns(call, output, Grid(steps, o)).shape[1] // 2 for o in offsets]
    if all(size >= step for size, step in zip(sizes, steps, strict=True)):
        assert sum(counts) == math.prod(sizes)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 60), step=st.integers(1, 70), offset=st.integers(0, 10_000), dim=st.integers(0, 2))
def test_a_grid_has_a_position_whatever_the_size(size: int, step: int, offset: int, dim: int) -> None:
    chosen = range(*Grid((step,) * 3, offset).index(dim, size).indices(size))
    assert len(chosen) >= 1 and len(chosen) <= -(-size // step)


@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=3), limit=st.integers(1, 500))
def test_the_steps_leave_about_the_limit(sizes: list[int], limit: int) -> None:
    steps, count = grid_steps(sizes, limit), math.prod(sizes)
    assert set(grid_steps(sizes, None)) == {1} and len(steps) == len(sizes)
    left = count / math.prod(steps)
    assert left == count if count <= limit else limit / 2 <= left <= limit * 2


@pytest.mark.parametrize("name", [name for name in LAYERS if "trans" in name or name in ("blocks", "gaps")])
@pytest.mark.parametrize("limit", [2, 4, 9, 16])
def test_a_grid_has_positions_of_every_phase(name: str, limit: int) -> None:
    factory, shape = LAYERS[name]
    call, output = record(factory(), torch.randn(2, shape[0], *(8 for _ in shape[1:])))
    steps = steps_of(call, output, limit)
    for step, phase, size in zip(steps, call.phases, output.shape[2:], strict=True):
        assert {place % phase for place in range(size)[Grid((step,)).index(0, size)]} == set(range(phase))


def test_few_positions_are_halved_along_one_dimension() -> None:
    assert sorted(grid_steps((8, 8), 32)) == [1, 2] and grid_steps((16, 16), 64) == (2, 2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("steps", [(), (1, 2), (2, 1), (4, 4)])
def test_columns_hold_no_more_memory_than_they_are(
    layout: torch.memory_format, steps: tuple[int, ...]
) -> None:
    images = torch.randn(2, 6, 8, 8).contiguous(memory_format=layout)
    call, _ = record(nn.Conv2d(6, 4, 1), images)
    columns = raw_columns(call, Grid(steps))
    assert columns.untyped_storage().nbytes() == columns.numel() * columns.element_size()
