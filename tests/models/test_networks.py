from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import autoprune.models as models


def test_exported_names() -> None:
    resnets = {f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110)}
    tools = {"fingerprint", "load_model", "load_weights", "save_weights", "train_digits", "train_lenet5"}
    assert set(models.__all__) == resnets | tools | {"cifar_vgg16_bn", "digits_resnet", "lenet5"}
    assert all(callable(getattr(models, name)) for name in models.__all__)


# Parameters and multiply-accumulates as the literature reports them.
@pytest.mark.parametrize(
    ("name", "shape", "params", "million_macs"),
    [
        ("cifar_resnet20", (3, 32, 32), 269_722, 40.55),
        ("cifar_resnet32", (3, 32, 32), 464_154, 68.86),
        ("cifar_resnet44", (3, 32, 32), 658_586, 97.17),
        ("cifar_resnet56", (3, 32, 32), 853_018, 125.49),
        ("cifar_resnet110", (3, 32, 32), 1_727_962, 252.89),
        ("cifar_vgg16_bn", (3, 32, 32), 14_724_042, 313.20),
        ("lenet5", (1, 28, 28), 431_080, 2.293),
        ("digits_resnet", (1, 8, 8), 174_970, 1.648),
    ],
)
def test_size_and_cost(name: str, shape: tuple[int, ...], params: int, million_macs: float) -> None:
    with torch.device("meta"):
        model = getattr(models, name)()
        images = torch.zeros(1, *shape)
    with FlopCounterMode(display=False) as counter:
        logits = model(images)
    assert logits.shape == (1, 10)
    assert sum(value.numel() for value in model.parameters()) == params
    assert counter.get_total_flops() / 2e6 == pytest.approx(million_macs, rel=2e-3)


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_vgg16_bn", "lenet5", "digits_resnet"])
def test_number_of_classes(name: str) -> None:
    with torch.device("meta"):
        model = getattr(models, name)(num_classes=7)
    assert [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1].out_features == 7


def test_shortcut_pads_zeros_around_every_second_pixel() -> None:
    shortcut = models.cifar_resnet20().layer2[0].shortcut
    x = torch.randn(2, 16, 6, 6)
    y = shortcut(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()


def test_fingerprint_sees_every_bit_and_name() -> None:
    model = models.lenet5()
    other = copy.deepcopy(model)
    assert models.fingerprint(model) == models.fingerprint(other) and len(models.fingerprint(model)) == 16
    with torch.no_grad():
        other.fc2.bias[3] = torch.nextafter(other.fc2.bias[3], torch.tensor(9.0))
    assert models.fingerprint(model) != models.fingerprint(other)
    assert models.fingerprint(nn.Linear(4, 2)) != models.fingerprint(nn.Linear(2, 4))
    assert models.fingerprint(copy.deepcopy(model).bfloat16()) != models.fingerprint(model)
