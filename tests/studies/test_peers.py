"""The comparison of peers: what needs no peer package."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import peers
from autoprune.graph import CostModel, Slicer, count_macs
from contestants.aimet import at, monotone, within
from contestants.amc import LEAST_SHARE, bounded
from contestants.bout import bout, reason
from contestants.channels import Untranslatable, same_output, survivors, tagged, to_kept, units
from contestants.magnitude import reader_orders, widest
from contestants.report import table
from contestants.restoring import RESTORATIONS
from contestants.ring import Choice, Contestant, LeftOut, Ring, Settings
from tests.small import NETWORKS, graph_of, make_bench, random_kept

KINDS = ("chain", "residual", "concat", "separable", "flattened")


def make_ring(kind: str = "residual", share: float = 0.5) -> Ring:
    """A ring whose session is no more than what contestants ask of it."""
    small = NETWORKS[kind]
    model, images = small.model(), small.images(16)
    bench = make_bench(model, images)
    cost = CostModel(model, bench.graph, (images[:1],))
    engine = SimpleNamespace(bench=bench, cost=cost)
    example = SimpleNamespace(args=(images[:1],), kwargs={}, tensors=(images[:1],))
    session = SimpleNamespace(
        engine=engine, model=model, graph=bench.graph, example=lambda: example,
        evaluate=lambda network, split: ({"validation": 0.5, "test": 0.25}[split], 16),
    )  # fmt: skip
    return Ring(session, share, Settings())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_channels_that_somebody_chose_are_recovered_from_tags(kind: str) -> None:
    model = NETWORKS[kind].model()
    graph = graph_of(model, NETWORKS[kind].images(1))
    kept = random_kept(graph, seed=3)
    pruned = Slicer(tagged(model, graph), graph).build(kept)
    found = to_kept(graph, survivors(pruned, graph))
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], kept[name]) for name in kept)


def test_a_choice_that_the_groups_do_not_allow_is_refused() -> None:
    model = NETWORKS["residual"].model()
    graph = graph_of(model, NETWORKS["residual"].images(1))
    left = survivors(tagged(model, graph), graph)
    assert to_kept(graph, left).keys() == graph.widths.keys()
    # The sum's second branch gives one channel more than its first.
    left["stem.0.weight", 0] = torch.arange(7)
    with pytest.raises(Untranslatable, match="not those of autoprune's groups"):
        to_kept(graph, left)


def test_frozen_positions_belong_to_no_unit() -> None:
    model = NETWORKS["chain"].model()
    graph = graph_of(model, NETWORKS["chain"].images(1))
    known = units(graph)
    first = graph.groups[0]
    member = first.members[0]
    assert known[member.tensor, member.dim, int(member.positions[2, 0])] == (first.name, 2)
    assert not any(tensor == "8.weight" and dim == 0 for tensor, dim, _ in known)


def test_outputs_decide_whether_a_translation_is_right() -> None:
    ring = make_ring()
    kept = random_kept(ring.graph)
    other = {**kept, "a1.0": (kept["a1.0"] + 1) % ring.graph.widths["a1.0"]}
    other["a1.0"] = other["a1.0"].sort().values
    assert same_output(ring.sliced(kept), ring.sliced(kept), ring.example)
    assert not same_output(ring.sliced(kept), ring.sliced(other), ring.example)


def test_reading_kernels_of_least_norm_go_first() -> None:
    ring = make_ring("chain")
    name = ring.graph.groups[0].name
    with torch.no_grad():
        ring.model.get_parameter("2.0.weight")[:, 5] = 0.0
    order = reader_orders(ring)[name]
    assert order[0] == 5 and order.sort().values.tolist() == list(range(8))
    assert widest({name: order}, {name: 7})[name].tolist() == [0, 1, 2, 3, 4, 6, 7]


def test_scores_never_fall_with_the_channels() -> None:
    fitted = monotone([(1, 0.2), (2, 0.6), (3, 0.4), (4, 0.9)])
    assert fitted == [(1, 0.2), (2, pytest.approx(0.5)), (3, pytest.approx(0.5)), (4, 0.9)]
    assert monotone([]) == []


def test_the_common_threshold_is_the_highest_that_fits() -> None:
    scores = {"a": [(2, 0.5), (4, 0.8)], "b": [(1, 0.3), (3, 0.7)]}
    dense = {"a": 8, "b": 4}
    assert at(scores, dense, 0.6) == {"a": 4, "b": 3}
    assert within(scores, dense, lambda w: sum(w.values()) <= 7) == {"a": 4, "b": 3}
    assert within(scores, dense, lambda w: sum(w.values()) <= 5) == {"a": 2, "b": 3}
    with pytest.raises(LeftOut, match="no common score"):
        within(scores, dense, lambda w: False)


def test_actions_are_bounded_so_that_the_budget_holds() -> None:
    ring = make_ring()
    cost: CostModel = ring.session.engine.cost
    dense = np.array([ring.graph.widths[name] for name in cost.names])
    greedy = bounded(cost, dense, np.ones(len(dense)), ring.limit)
    assert cost.evaluate(greedy[None]).macs[0] <= ring.limit
    assert greedy[0] == dense[0] and (greedy < dense).any()
    modest = bounded(cost, dense, np.full(len(dense), LEAST_SHARE), ring.limit)
    assert (modest == np.ceil(LEAST_SHARE * dense)).all()
    with pytest.raises(LeftOut, match="budget is not met"):
        bounded(cost, dense, np.ones(len(dense)), 1)


def half(ring: Ring) -> Choice:
    kept = random_kept(ring.graph, share=0.5)
    return Choice(ring.sliced(kept), kept)


def test_a_bout_measures_every_restoration_on_the_network_that_it_counts() -> None:
    ring = make_ring(share=0.9)
    entry = Contestant("half", half, ("none", "batch norm", "independent", "sequential"))
    records = list(bout(entry, ring))
    assert [record["restored"] for record in records] == list(entry.restorations)
    counted = count_macs(half(ring).network, (ring.example,)) / count_macs(ring.model, (ring.example,))
    for record in records:
        assert record["macs_ratio"] == pytest.approx(counted)
        assert (record["validation"], record["test"]) == (0.5, 0.25)


def test_restorations_leave_the_choice_as_it_was() -> None:
    ring = make_ring(share=0.9)
    choice = half(ring)
    before = choice.network(ring.example)
    list(bout(Contestant("same", lambda _: choice, ("batch norm", "sequential")), ring))
    assert torch.equal(choice.network(ring.example), before)


def test_what_fails_is_a_record_with_the_reason() -> None:
    def broken(ring: Ring) -> Choice:
        raise ModuleNotFoundError("No module named 'peer'\nand more")

    def dense(ring: Ring) -> Choice:
        return Choice(ring.model)

    def untold(ring: Ring) -> Choice:
        return Choice(half(ring).network)

    ring = make_ring(share=0.9)
    (missing,) = bout(Contestant("missing", broken), ring)
    assert missing["error"] == "ModuleNotFoundError: No module named 'peer'"
    (wide,) = bout(Contestant("wide", dense), ring)
    assert wide["error"] == "the fewest MACs that it reached are 100.0% of dense"
    own, sequential = bout(Contestant("untold", untold, ("none", "sequential")), ring)
    assert "error" not in own and sequential["error"].startswith("the choice of channels is not reported")
    assert reason(LeftOut("plain")) == "plain"


def test_work_done_once_is_charged_to_every_budget() -> None:
    memo: dict[str, Any] = {}
    first, second = (make_ring() for _ in range(2))
    first.memo = second.memo = memo

    def make() -> int:
        first.evaluations += 3
        return sum(i * i for i in range(200_000))

    assert first.once("table", make) == second.once("table", lambda: pytest.fail("made again"))
    assert first.evaluations == second.evaluations == 3
    assert first.charged == 0.0 and second.charged > 0.0


def test_the_table_lists_what_was_measured_and_what_was_not() -> None:
    measured = {"contestant": "a", "budget": 0.5, "restored": "none", "macs_ratio": 0.4987, "validation": 0.8,
                "test": 0.75, "evaluations": 7, "cpu_seconds": 1.25}  # fmt: skip
    lines = table([measured, {"contestant": "b", "budget": 0.35, "error": "no such package"}]).splitlines()
    assert lines[2] == "| 50% | a | none | 49.87% | 80.00% | 75.00% | 7 | 1.2 |"
    assert lines[-1] == "- b, 35%: no such package"
    assert "Not measured" not in table([measured])


def test_every_contestant_has_a_name_of_its_own_and_restorations_that_exist() -> None:
    contestants = [entry for family in peers.FAMILIES.values() for entry in family]
    names = [entry.name for entry in contestants]
    assert len(set(names)) == len(names) and {"uniform L1", "autoprune"} <= set(names)
    assert {name for entry in contestants for name in entry.restorations} == set(RESTORATIONS)
