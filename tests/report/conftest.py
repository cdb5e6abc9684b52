"""Studies written by hand, as large and as odd as a test wants them."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from autoprune.report import Content, read_content
from autoprune.searching import attributes as attr
from autoprune.searching.packing import pack_profile
from autoprune.searching.profile import Profile
from autoprune.searching.study import DIRECTIONS
from autoprune.storing.artifacts import open_artifacts
from autoprune.storing.storages import open_storage

NAME = "made"
NASTY = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>%{x}$a$<b>"
DENSE = {"macs": 1_000_000, "params": 50_000, "bytes": 200_000, "accuracy": 0.92}

MakeStudy = Callable[..., str]


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """Write a study; the path of its journal."""

    def make(trials: int = 12, groups: int = 4, prefix: str = "", **more: Any) -> str:
        path = str(tmp_path / f"{len(list(tmp_path.iterdir()))}.journal")
        write_study(path, trials, groups, prefix, **more)
        return path

    return make


@pytest.fixture
def make_content(make_study: MakeStudy) -> Callable[..., Content]:
    return lambda *args, **more: read_content(make_study(*args, **more), NAME)


def write_study(
    path: str, trials: int, groups: int, prefix: str = "", *, profile: bool = False, **attributes: Any
) -> None:
    """`attributes` are of the study, by the names in `attributes`; None leaves one out."""
    study = optuna.create_study(storage=open_storage(path), study_name=NAME, directions=DIRECTIONS)
    widths = {f"{prefix}layer{place}": 8 * 2 ** (place % 3) for place in range(groups)}
    described = {
        "SCHEMA_VERSION": attr.SCHEMA,
        "VERSIONS": {"torch": "2", f"{prefix}x": prefix},
        "DENSE": DENSE,
        "DENSE_WIDTHS": widths,
        "FROZEN": [{"name": f"{prefix}fc", "width": 10, "reason": f"{prefix}is the output"}],
        "IDENTITY": {"budget": {"macs": 0.8, "params": 40_000}, "batch_removal": [1, 2], "model": "abc"},
        **attributes,
    }
    for name, value in described.items():
        if value is not None:
            study.set_user_attr(getattr(attr, name), value)
    if profile:
        artifacts = open_artifacts(None, path)
        reference = artifacts.save(study, "profile.safetensors", pack_profile(curves(widths)))
        study.set_user_attr(f"{attr.SHARED}profile.0123", reference)
    rng = random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.add_trials([trial(number, widths, prefix, rng) for number in range(trials)])


def trial(number: int, widths: dict[str, int], prefix: str, rng: random.Random) -> Any:
    ratio = 0.05 + 0.75 * rng.random()
    accuracy = 0.92 * (1 - math.exp(-5 * ratio)) - 0.1 * rng.random()
    kept = {group: max(1, round(width * ratio * rng.random())) for group, width in widths.items()}
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        values=[accuracy, ratio],
        user_attrs={
            attr.COSTS: {name: int(ratio * DENSE[name]) for name in ("macs", "params", "bytes")},
            attr.WIDTHS: kept,
            attr.KEPT: {group: attr.pack(torch.arange(n), widths[group]) for group, n in kept.items()},
            attr.BEFORE: None if number % 2 else accuracy / 2,
            attr.OUTPUT_ERROR: math.inf if number == 0 else 1 - accuracy,
            attr.BATCH: 1,
            attr.CRITERION: f"{prefix}l1",
            attr.PROXIES: {f"{prefix}additive": math.nan if number == 1 else 1 - accuracy},
        },
    )


def curves(widths: dict[str, int]) -> Profile:
    falling = {group: np.linspace(1.0, 0.0, width + 1) for group, width in widths.items()}
    orders = {b: {group: torch.arange(width) for group, width in widths.items()} for b in (1, 2)}
    return Profile(orders, {b: falling for b in (1, 2)}, {b: falling for b in (1, 2)})
