"""What strategies are told about the network is what the engine would measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from autoprune.graph.groups import Kept
from autoprune.reconstruction import Independent
from autoprune.reconstruction.remembering import RememberingIndependent
from autoprune.searching.engine import Engine
from autoprune.searching.evaluator import Evaluator
from autoprune.searching.metrics import Accuracy
from autoprune.searching.outputs import OutputError
from autoprune.searching.strategies.base import OnFew
from autoprune.searching.workshop import REMEMBERED
from tests.small import NETWORKS, make_bench, random_kept

MakeEngine = Callable[..., Engine]


@pytest.mark.parametrize("network", NETWORKS)
def test_remembered_solutions_are_the_independent_ones(network: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(), small.images(24)
    bench = make_bench(model, images)
    error = OutputError(model, bench.chunks)
    plain, remembering = (
        Evaluator(bench, restore, lambda network: 0.0, error)
        for restore in (Independent(), RememberingIndependent())
    )
    for seed in (0, 1, 0, 2, 1, 0):
        kept = random_kept(bench.graph, 0.5 + 0.1 * seed, seed)
        assert error(remembering.restored(kept)) == pytest.approx(error(plain.restored(kept)), rel=1e-5)


def test_only_what_changed_is_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from autoprune.reconstruction import remembering as module

    solved: list[str] = []
    original = module.solved
    monkeypatch.setattr(module, "solved", lambda *args: solved.append("") or original(*args))
    small = NETWORKS["residual"]
    bench = make_bench(small.model(), small.images(24))
    restore = RememberingIndependent()
    evaluator = Evaluator(bench, restore, lambda network: 0.0, OutputError(bench.model, bench.chunks))
    kept = random_kept(bench.graph)
    evaluator.restored(kept)
    first = len(solved)
    evaluator.restored(kept)
    assert len(solved) == first > 0
    group = bench.graph.groups[-1]
    evaluator.restored({**kept, group.name: kept[group.name][1:]})
    assert first < len(solved) <= first + len(bench.graph.consumers(group))


@pytest.mark.parametrize("data_free", [False, True])
def test_assessments_are_of_the_quickly_restored_candidate(make_engine: MakeEngine, data_free: bool) -> None:
    how = {"criterion": "l1", "reconstruction": "none"} if data_free else {}
    engine = make_engine("residual", **how)
    workshop, widths = engine.workshop, {"a1.0": 3, "b1.0": 5}
    restore = engine.reconstruction if data_free else Independent()
    evaluator = Evaluator(engine.bench, restore, engine.task.metric, engine.evaluator.output_error)
    network = evaluator.restored(engine.profile.kept(widths, 1))
    error, metric = engine.evaluator.output_error(network), engine.task.metric(network)
    assert workshop.assess(widths, 1, "last-layer-error", 48) == pytest.approx(error, rel=1e-5)
    assert workshop.assess(widths, 1, "accuracy", 48) == pytest.approx(1.0 - metric)
    assert workshop.assess({}, 1, "last-layer-error", 16) == pytest.approx(0.0, abs=1e-9)


def test_a_metric_of_the_user_s_own_is_asked_as_it_is(make_engine: MakeEngine) -> None:
    engine = make_engine()
    object.__setattr__(engine.task, "metric", lambda network: 5.0)
    assert engine.workshop.assess({}, 1, "accuracy", 3) == -4.0


@pytest.mark.parametrize("images", [1, 7, 20, 48, 100])
def test_the_first_images_of_a_metric(make_engine: MakeEngine, images: int) -> None:
    metric = make_engine().task.metric
    assert isinstance(metric, Accuracy)
    metric.batches = [(x.slice(i, i + 20), y[i : i + 20]) for x, y in metric.batches for i in (0, 20, 40)]
    part = metric.first(images)
    assert part.images == min(images, 48)
    labels = [int(label) for _, y in part.batches for label in y]
    assert labels == [int(label) for _, y in metric.batches for label in y][:images]


def test_notes_are_kept_with_the_study(make_engine: MakeEngine) -> None:
    engine = make_engine(trials=1)
    assert engine.workshop.recall("walk/5") is None
    engine.workshop.remember("walk/5", {"counts": [1, 2]})
    assert engine.workshop.recall("walk/5") == {"counts": [1, 2]}
    assert engine.workshop.dense_accuracy == engine.search().dense.accuracy


@pytest.mark.parametrize("split", ["train", "validation"])
def test_gradients_are_those_of_a_trial_s_own_network(make_engine: MakeEngine, split: str) -> None:
    engine = make_engine(trials=2)
    engine.search()
    dense, pruned = (engine.workshop.gradients(trial, split, 32) for trial in (None, 1))
    point = engine.front().trials[1]
    for name, width in engine.graph.widths.items():
        assert [len(layer.norms) for layer in dense.layers[name]] == [width]
        assert [len(layer.norms) for layer in pruned.layers[name]] == [point.widths[name]]
    assert engine.workshop.gradients(1, split, 32) is pruned
    assert pruned.loss != dense.loss > 0


def test_only_the_last_judgements_on_few_images_are_remembered(make_engine: MakeEngine) -> None:
    """A search of thousands of trials asks for tens of thousands."""
    asked: list[Kept] = []

    class Rung:
        def judged(self, kept: Kept) -> tuple[float, float]:
            asked.append(kept)
            return 0.5, 0.25

    engine = make_engine()
    workshop, dense = replace(engine.workshop, rung=Rung), engine.space.dense
    for _ in range(2):
        assert workshop.on_few(engine.space.widths(dense), 1) == OnFew(0.5, 0.25)
    assert len(asked) == 1
    for batch in range(2, REMEMBERED + 9):
        workshop._few[batch, ()] = OnFew(0.0)
    assert workshop.on_few(engine.space.widths(dense), 2) == OnFew(0.5, 0.25)
    assert len(workshop._few) == REMEMBERED and len(asked) == 2
