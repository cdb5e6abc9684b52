from __future__ import annotations

import torch
from torch import nn

from autoprune.graph.plain import masks_as_given, plain


def test_a_mask_that_is_not_causal_stays_the_mask_that_it_is() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 1).train(), torch.randn(3, 5, 8)
    mask = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).tril(-1).bool(), -torch.inf)
    with masks_as_given():
        found = model(x, mask=mask)
    torch.testing.assert_close(found, model(x, mask=mask))


def test_mixed_precision_does_nothing_inside_and_is_as_before_afterwards() -> None:
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    with plain(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype is torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype is torch.bfloat16


def test_several_may_be_inside_at_once() -> None:
    before = torch.amp.autocast_mode.autocast.__enter__
    first, second = plain(), plain()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.amp.autocast_mode.autocast.__enter__ is not before
    second.__exit__(None, None, None)
    assert torch.amp.autocast_mode.autocast.__enter__ is before
    with torch.autocast("cpu", torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
