"""Fronts judged again: chosen by what was seen, worth what was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import unseen
from autoprune.data.inputs import leading
from autoprune.searching.engine import Engine
from autoprune.searching.hypervolume import hypervolume
from autoprune.searching.metrics import Accuracy
from candidates import open_session

POINTS = [(0.5, 0.5), (0.7, 0.6), (0.6, 0.7), (0.8, 0.4)]
OTHER = [0.4, 0.9, None, 0.6]


def test_who_was_seen_to_be_best_counts_and_no_other() -> None:
    run = {"points": POINTS, "unseen": OTHER}
    assert unseen.volume(run, 2, 0.1) == pytest.approx(hypervolume([(0.4, 0.5), (0.9, 0.6)], accuracy=0.1))
    # The last candidate beats all before it where the search looked, and so hides them.
    assert unseen.volume(run, 4, 0.1) == pytest.approx(hypervolume([(0.6, 0.4)], accuracy=0.1))
    assert unseen.volume({"points": POINTS, "unseen": [p[0] for p in POINTS]}, 4, 0.1) == pytest.approx(
        hypervolume(POINTS, accuracy=0.1)
    )


def test_a_table_shows_what_every_run_of_a_contestant_has() -> None:
    long = {"points": POINTS, "unseen": OTHER}
    short = {"points": POINTS[:2], "unseen": OTHER[:2]}
    text = unseen.table({"both": [long, short], "one": [long], "none": [{"points": POINTS}]}, (2, 4), 0.1)
    rows = {row.split("|")[1].strip(): row.split("|")[2:4] for row in text.splitlines()[2:]}
    assert rows.keys() == {"both (2 seeds)", "one (1 seeds)"}
    assert rows["both (2 seeds)"][1].strip() == "-"
    assert float(rows["one (1 seeds)"][1]) == pytest.approx(unseen.volume(long, 4, 0.1), abs=1e-4)


def test_candidates_are_restored_and_judged_on_the_images_behind(study: Path) -> None:
    engine = open_session(str(study), images=64).engine
    whole = engine.task.metric
    assert isinstance(whole, Accuracy)
    task = replace(engine.task, metric=whole.first(40), probe=leading(engine.task.probe, 40))
    fewer = Engine(task, engine.options)
    front = fewer.search(trials=3)
    candidates = [(dict(point.widths), point.batch_removal) for point in front.trials]
    run = {"points": [(p.accuracy, p.macs_ratio) for p in front.trials], "candidates": candidates}
    assert unseen.lacks_judgement(run)
    judged = unseen.judged(run, fewer, whole)
    assert not unseen.lacks_judgement(judged)
    point, found = next((p, f) for p, f in zip(front.trials, judged["unseen"], strict=True) if f is not None)
    network = point.build()
    assert found * 24 == pytest.approx(whole(network) * 64 - task.metric(network) * 40)
    assert unseen.judged(run, engine, whole) == run, "no images are left"
