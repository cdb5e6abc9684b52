"""The calibration images of a task: their chunks, and the one pass over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from autoprune.calibration.statistics import calibrate
from autoprune.data.inputs import Inputs
from autoprune.reconstruction.base import POSITIONS_PER_IMAGE
from autoprune.searching import calibrating
from autoprune.searching.calibrating import FIT_SAMPLES, MOST_CHUNKS, positions_per_image, rechunked
from autoprune.searching.engine import Engine

MakeEngine = Callable[..., Engine]


def test_chunks_hold_the_same_images_in_order(make_engine: MakeEngine) -> None:
    task = make_engine("residual").task
    chunks = task.chunks
    whole = chunks[0].tensors[0]
    again = rechunked([part for chunk in chunks for part in chunk.split(1, least=5)], task.model)
    assert sum(chunk.size for chunk in again) == len(whole)
    assert again[0].tensors[0].equal(whole[: again[0].size])


def test_many_images_make_a_bounded_number_of_chunks_of_nearly_equal_size() -> None:
    images = torch.arange(5000.0)[:, None, None, None].expand(-1, 3, 32, 32)
    chunks = rechunked([Inputs((images[:999],)), Inputs((images[999:],))], nn.Flatten())
    sizes = [chunk.size for chunk in chunks]
    assert 1 < len(chunks) <= MOST_CHUNKS and max(sizes) - min(sizes) <= 1
    assert torch.cat([chunk.tensors[0] for chunk in chunks]).equal(images)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Layers that were watched, one number a calibration."""
    found: list[int] = []

    def noted(model: object, layers: list[object], *args: object, **settings: object) -> object:
        found.append(len(layers))
        return calibrate(model, layers, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(calibrating, "calibrate", noted)
    return found


def test_only_readers_of_pruned_channels_are_watched_and_only_once(
    make_engine: MakeEngine, passes: list[int]
) -> None:
    engine = make_engine("residual")
    moments = engine.bench.statistics.moments
    assert passes == []
    read = {layer.name for group in engine.graph.groups for layer in engine.graph.consumers(group)}
    assert set(moments) == read and len(read) < len(engine.graph.layers)
    _ = [moments[name] for name in read]
    assert passes == [len(read)]


def test_what_reads_no_images_has_no_second_moments(make_engine: MakeEngine, passes: list[int]) -> None:
    engine = make_engine("residual", criterion="l1", reconstruction="none")
    assert engine.data_free and not engine.bench.statistics.moments and passes == []


def test_few_images_are_looked_at_more_closely(make_engine: MakeEngine) -> None:
    layers = make_engine("residual").graph.layers
    found = [positions_per_image(layers, images) for images in (64, 512, 2048, 10_000)]
    assert found == [1024, 128, 32, 32]
    # Wide networks keep to the memory that targets may take.
    wide = [replace(layer, shape=(100 * layer.shape[0], *layer.shape[1:])) for layer in layers] * 10
    assert POSITIONS_PER_IMAGE < positions_per_image(wide, 64) < 1024


def test_a_quick_judgement_does_not_look_closer(make_engine: MakeEngine) -> None:
    engine = make_engine("residual")
    assert engine.evaluator.bench.positions_per_image == FIT_SAMPLES // 32
    for images in (8, 32):
        assert engine.ladder.on_few(images).bench.positions_per_image == POSITIONS_PER_IMAGE
