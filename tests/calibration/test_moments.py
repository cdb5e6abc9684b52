from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autoprune.calibration import accumulate
from autoprune.calibration import moments as module
from autoprune.calibration.moments import Moments
from autoprune.calibration.statistics import calibrate, centred
from autoprune.criteria.views import dense_weight
from autoprune.data.inputs import Inputs
from autoprune.errors import DataError
from autoprune.graph import find_groups
from autoprune.linear_algebra import for_images
from autoprune.memory import Limit
from tests.small import NETWORKS, make_bench


def data(groups: int, n: int, out: int, columns: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n * columns)
    x = torch.randn(groups, n, columns, generator=generator, dtype=torch.float64) + 1
    return x, torch.randn(groups, out, columns, generator=generator, dtype=torch.float64) - 2


@settings(max_examples=30, deadline=None)
@given(
    groups=st.integers(1, 3),
    n=st.integers(1, 5),
    out=st.integers(0, 3),
    cuts=st.lists(st.integers(2, 9), min_size=1),
)
def test_a_sum_over_batches_is_all_at_once(groups: int, n: int, out: int, cuts: list[int]) -> None:
    x, y = data(groups, n, out, sum(cuts))
    total = Moments.of(x[..., :0], y[..., :0])
    for inputs, targets in zip(x.split(cuts, -1), y.split(cuts, -1), strict=True):
        total.add(Moments.of(inputs, targets))
    whole = Moments.of(x, y)
    assert total.count == whole.count
    for name in ("second", "first", "cross", "target"):
        assert getattr(total, name).dtype == torch.float64
        torch.testing.assert_close(getattr(total, name), getattr(whole, name))


def test_moments_are_those_of_numpy() -> None:
    x, y = data(2, 3, 2, 50)
    moments = Moments.of(x, y)
    for g in range(2):
        both = np.cov(np.concatenate([x[g], y[g]]), bias=True)
        np.testing.assert_allclose(moments.covariance(True)[g], both[:3, :3])
        np.testing.assert_allclose(moments.cross_covariance(True)[g], both[:3, 3:])
        np.testing.assert_allclose(moments.covariance(False)[g], x[g] @ x[g].T / 50)
        np.testing.assert_allclose(moments.cross_covariance(False)[g], x[g] @ y[g].T / 50)
        np.testing.assert_allclose(moments.mean[g, :, 0], x[g].mean(-1))
        np.testing.assert_allclose(moments.target_mean[g], y[g].mean(-1))


@given(groups=st.integers(1, 3), n=st.integers(1, 5), out=st.integers(0, 3), columns=st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_products_of_shifted_rows_are_those_of_the_rows(groups: int, n: int, out: int, columns: int) -> None:
    x, y = data(groups, n, out, columns)
    found = module._shifted(x, y, x.sum(-1), y.sum(-1))
    for mine, wanted in zip(found, module._products(x, y), strict=True):
        torch.testing.assert_close(mine, wanted)


@pytest.mark.parametrize("mean", [30, 3000])
def test_rounded_products_leave_a_covariance_beside_a_large_mean(
    mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: factors lose all but 10 bits of their mantissa."""
    exact = module._products

    def rounded(x: Tensor) -> Tensor:
        return (x.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)

    monkeypatch.setattr(module, "_products", lambda x, y: exact(rounded(x), rounded(y)))
    x = (torch.randn(1, 6, 5000, generator=torch.Generator().manual_seed(0)) + mean).float()
    wanted = torch.cov(x[0].double(), correction=0)
    y, first = x[:, :2], x.double().sum(-1)
    errors = {}
    shifted, plain = module._shifted(x, y, first, first[:, :2]), module._products(x, y)
    for name, (second, cross) in {"shifted": shifted, "plain": plain}.items():
        found = Moments(second, first, 5000, cross, first[:, :2])
        errors[name] = float((found.covariance(True)[0] - wanted).norm() / wanted.norm())
        if name == "shifted":
            torch.testing.assert_close(found.cross_covariance(True)[0], wanted[:, :2], atol=5e-3, rtol=0)
    assert errors["shifted"] < 5e-3 and errors["plain"] > 0.1


@pytest.mark.parametrize("far", ["inputs", "targets"])
def test_what_varies_is_kept_beside_a_mean_far_off_on_a_cpu_too(far: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1, 6, 4096, generator=generator), torch.randn(1, 2, 4096, generator=generator)
    x, y = (x + 1e4, y) if far == "inputs" else (x, y + 1e5)
    found, exact = Moments.of(x, y), Moments.of(x.double(), y.double())
    torch.testing.assert_close(found.covariance(True), exact.covariance(True), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.cross_covariance(True), exact.cross_covariance(True), atol=1e-4, rtol=0)


def test_float32_products_summed_in_float64_are_enough() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 6, 20_000, generator=generator, dtype=torch.float64)
    single = Moments.of(x[..., :0].float())
    for part in x.float().split(256, -1):
        single.add(Moments.of(part))
    torch.testing.assert_close(single.covariance(True), Moments.of(x).covariance(True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_calibration_does_not_depend_on_batches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = NETWORKS[name]
    model, images = small.model(dtype=torch.float64), small.images(24, dtype=torch.float64)
    whole = make_bench(model, images).statistics
    # So small that patches are made image by image.
    monkeypatch.setattr(accumulate, "PATCHES", Limit(cpu=40, gpu=0, parts=1))
    parts = make_bench(model, images, chunks=5).statistics
    assert whole.images == parts.images == 24 and list(whole.moments) == list(parts.moments)
    for layer, moments in whole.moments.items():
        assert moments.count == parts.moments[layer].count
        torch.testing.assert_close(moments.second, parts.moments[layer].second)
        torch.testing.assert_close(moments.first, parts.moments[layer].first)


class _InPlace(nn.Module):
    """Works on what a layer has read after the layer has read it."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.head = nn.Linear(40, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1
        y = self.wide(x)
        return self.head(y + torch.relu_(x)[:, :8])


def test_columns_that_wait_for_more_are_as_they_were_read() -> None:
    model, images = _InPlace().double().eval(), torch.randn(63, 40, dtype=torch.float64)
    layers = find_groups(model, (images[:1],)).layers
    # Six batches have as many columns as the layer reads rows, and the rest waits to the end.
    batches = [Inputs((part,)) for part in images.split(7)]
    found = calibrate(model, layers, batches, damping=1e-3).moments["wide"]
    assert found.count == 63
    torch.testing.assert_close(found.second[0], images.mT @ images)
    torch.testing.assert_close(found.first[0], images.sum(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_mean_output_follows_from_the_mean_input(name: str) -> None:
    small = NETWORKS[name]
    model, images = small.model(dtype=torch.float64), small.images(16, dtype=torch.float64)
    bench = make_bench(model, images)
    outputs: dict[str, Tensor] = {}
    for layer in bench.graph.layers:
        if layer.name in bench.statistics.moments:

            def keep(module: object, args: object, output: Tensor, name: str = layer.name) -> None:
                last = output.dim() - 1 if isinstance(module, torch.nn.Linear) else 1
                outputs[name] = output.movedim(last, 0).flatten(1).mean(1)

            model.get_submodule(layer.name).register_forward_hook(keep)
    model(images)
    for layer in bench.graph.layers:
        if layer.name in outputs:
            mean = (dense_weight(model, layer) @ bench.statistics.moments[layer.name].mean).flatten()
            bias = 0 if layer.bias is None else model.get_parameter(layer.bias)
            torch.testing.assert_close(mean + bias, outputs[layer.name], check_dtype=False)
            inverse, matrix = bench.statistics.inverse(layer), bench.statistics.covariance(layer)
            means = matrix.diagonal(dim1=-2, dim2=-1).mean(-1).view(-1, 1, 1)
            damping = for_images(1e-6, matrix.shape[-1], 16) * means
            eye = torch.eye(matrix.shape[-1], dtype=torch.float64)
            torch.testing.assert_close(
                inverse @ (matrix + damping * eye), eye.expand_as(matrix), atol=1e-6, rtol=0
            )
            assert centred(layer) == (layer.bias is not None or layer.norm is not None)


def test_a_moving_grid_keeps_memory_and_loses_little() -> None:
    small = NETWORKS["chain"]
    model, images = small.model(), small.images(256)
    every = make_bench(model, images, chunks=8).statistics
    some = make_bench(model, images, chunks=8, positions=16).statistics
    for name, moments in every.moments.items():
        full, part = moments.covariance(True), some.moments[name].covariance(True)
        assert moments.second.shape == some.moments[name].second.shape
        assert float((full - part).norm() / full.norm()) < 0.25


def test_no_image_and_inputs_that_are_not_finite_are_refused() -> None:
    small = NETWORKS["chain"]
    model, images = small.model(), small.images(4)
    layers = make_bench(model, images).graph.layers
    with pytest.raises(DataError, match="at least one image"):
        calibrate(model, layers, [], damping=1e-3)
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="not finite"):
        calibrate(model, layers, [Inputs((images,))], damping=1e-3)


@pytest.mark.parametrize("n", [1, 191, 192, 193, 230])
def test_a_product_in_blocks_is_the_product(n: int) -> None:
    x, _ = data(2, n, 1, 40)
    torch.testing.assert_close(Moments.of(x).second, x @ x.mT)


@pytest.mark.parametrize("mean", [0.0, 10.0, 300.0, 3000.0])
def test_what_varies_beside_a_great_mean_is_not_rounded_away(mean: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, 20_000, generator=generator, dtype=torch.float64) + mean
    y = x[:, :2] * 2 - mean
    if not mean:
        # Targets alone may be far off too.
        y = y + 3000
    exact, found = Moments.of(x, y), Moments.of(x.float(), y.float())
    torch.testing.assert_close(found.covariance(True), exact.covariance(True), rtol=0, atol=2e-3)
    torch.testing.assert_close(found.cross_covariance(True), exact.cross_covariance(True), rtol=0, atol=2e-3)
