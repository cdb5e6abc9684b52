from __future__ import annotations

from collections.abc import Callable

import pytest

from autoprune.errors import StudyError
from autoprune.explaining import explain, savings
from autoprune.report import Content
from tests.report.conftest import make_content, make_study  # noqa: F401
from tests.searching.conftest import engine_for
from tests.small import NETWORKS

MakeContent = Callable[..., Content]


@pytest.mark.parametrize("network", NETWORKS)
def test_what_groups_saved_adds_up_to_what_the_candidate_saved(network: str) -> None:
    engine = engine_for(network)
    cost, dense = engine.cost, engine.graph.widths
    widths = {name: max(1, width // 3 + place % 2) for place, (name, width) in enumerate(dense.items())}
    saved = savings(cost, dense, widths)
    assert sum(macs for macs, _ in saved.values()) == cost.dense_macs - cost.macs(widths)
    assert sum(params for _, params in saved.values()) == cost.dense_params - cost.params(widths)
    assert all(macs >= 0 and params > 0 for macs, params in saved.values())
    first = next(iter(dense))
    alone = savings(cost, dense, {first: widths[first]})
    assert alone[first][0] == cost.dense_macs - cost.macs({first: widths[first]})
    assert all(found == (0, 0) for name, found in alone.items() if name != first)
    with pytest.raises(StudyError, match="other channel groups"):
        savings(cost, {"other": 3}, {})


def test_a_stored_study_is_enough_but_for_what_was_saved(make_content: MakeContent) -> None:  # noqa: F811
    content = make_content(profile=True)
    assert content.profile is not None
    point = content.front.points[0]
    found = explain(content, point)
    assert [group.name for group in found.groups] == list(content.widths)
    assert sum(group.share or 0.0 for group in found.groups) == pytest.approx(1.0)
    for group in found.groups:
        assert group.kept + len(group.removed) == group.width == content.widths[group.name]
        assert not set(group.removed) & set(point.kept[group.name].tolist())
        assert group.rate == pytest.approx(point.rates[group.name])
        curve = content.profile.output_errors[point.batch_removal][group.name]
        assert group.proxy == curve[group.kept] and group.macs_saved is None


def test_without_curves_there_is_no_proxy(make_content: MakeContent) -> None:  # noqa: F811
    content = make_content()
    found = explain(content, content.front.points[0]).to_json()
    assert all(group["proxy"] is None and group["share"] is None for group in found["groups"])
    assert found["trial"] == content.front.points[0].trial and found["metric"] == "accuracy"
