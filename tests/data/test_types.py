from __future__ import annotations

import pytest
import torch
from torch import nn

from autoprune.data.inputs import Inputs
from autoprune.data.types import check_types, type_hint
from autoprune.errors import DataError

MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
IMAGES = torch.randn(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        (IMAGES.double(), r"inputs are float64, the weights float32.*inputs.to\(torch.float32\)"),
        (IMAGES.half(), "inputs are float16"),
        (IMAGES.byte(), r"inputs are bytes.*inputs.float\(\) / 255"),
    ],
)
def test_another_type_than_the_weights_is_an_error_with_advice(images: torch.Tensor, advice: str) -> None:
    with pytest.raises(DataError, match=advice):
        check_types(MODEL, Inputs((images,)))


def test_what_the_network_can_run_on_is_its_own_affair() -> None:
    class Casting(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = super().forward(x.float())
            return found

    check_types(Casting(*MODEL), Inputs((IMAGES.double(),)))
    check_types(MODEL, Inputs((IMAGES,)))
    assert type_hint(MODEL, Inputs((IMAGES,))) == "" == type_hint(nn.Flatten(), Inputs((IMAGES.double(),)))
    assert type_hint(nn.Embedding(3, 2), Inputs((torch.zeros(2, 3, dtype=torch.int64),))) == ""
