"""Known networks at a small size: number of groups, rule 1 jointly, exact cost."""

from __future__ import annotations

import pytest
import torchvision

from autoprune.graph import CostModel, Slicer, check_groups, count_macs

from .helpers import graph_of, image, random_kept


@pytest.mark.parametrize(
    ("name", "groups"),
    [("resnet18", 12), ("mobilenet_v3_small", 27), ("shufflenet_v2_x1_0", 19), ("densenet121", 120)],
)
def test_torchvision(name: str, groups: int) -> None:
    model = torchvision.models.get_model(name, weights=None).eval()
    args = (image(1, 3, 32, 32),)
    graph = graph_of(model, *args)
    assert len(graph.groups) == groups
    assert check_groups(model, graph, args).ok
    kept = random_kept(graph)
    cost = CostModel(model, graph, args)
    assert cost.macs({name: len(k) for name, k in kept.items()}) == count_macs(
        Slicer(model, graph).build(kept), args
    )
