"""Plans of others: they name tensors and numbers, no files and no code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from autoprune.errors import PlanError
from autoprune.plan import PLAN_FILE, WEIGHTS_FILE, Plan, load, make_plan, read_plan, save_plan
from tests.searching.conftest import engine_for
from tests.small import NETWORKS
from tests.trust.traps import KINDS, Change, write_trap


@pytest.fixture(scope="module")
def built(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    engine = engine_for("chain", str(searched), trials=4)
    point = engine.front().points[0]
    plan = make_plan(engine.task.model, engine.graph, point, study="study")
    folder = tmp_path_factory.mktemp("trust") / "pruned"
    save_plan(folder, engine.build(point), plan)
    return folder


@pytest.fixture
def saved(built: Path, tmp_path: Path) -> Path:
    """A pruned network on disk, that may be spoiled."""
    return Path(shutil.copytree(built, tmp_path / "pruned"))


def edited(folder: Path, change: Change) -> None:
    values = json.loads((folder / PLAN_FILE).read_text())
    change(values)
    (folder / PLAN_FILE).write_text(json.dumps(values))


def with_weights(folder: Path, content: bytes) -> None:
    """Other weights, and a plan that vouches for them."""
    (folder / WEIGHTS_FILE).write_bytes(content)
    edited(folder, lambda plan: plan.update(weights_sha256=hashlib.sha256(content).hexdigest()))


def refuses(folder: Path, message: str) -> None:
    """PlanError, and the model stays as it was."""
    model = NETWORKS["chain"].model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(PlanError, match=message):
        load(model, folder)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_plan(saved: Path, flag: Path, kind: str) -> None:
    write_trap(saved / WEIGHTS_FILE, flag, kind)
    with_weights(saved, (saved / WEIGHTS_FILE).read_bytes())
    refuses(saved, "not a readable safetensors file")
    assert not flag.exists()


@pytest.mark.parametrize("path", ["../weights.safetensors", "/etc/passwd", "~/w", "weights.pth"])
@pytest.mark.parametrize("key", ["weights", "weights_file", "path", "file", "folder"])
def test_a_plan_cannot_name_a_file(saved: Path, key: str, path: str) -> None:
    edited(saved, lambda plan: plan.update({key: path}))
    refuses(saved, f"{key}: Extra inputs are not permitted")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "__class__", "forward", "0.__class__"])
def test_names_in_a_plan_are_names_of_tensors_only(saved: Path, name: str) -> None:
    edited(saved, lambda plan: plan["tensors"].update({name: {"0": [0]}}))
    refuses(saved, "unknown tensor")


def rows(indices: list[Any], dim: str = "0") -> Change:
    return lambda plan: plan["tensors"].update({"0.0.weight": {dim: indices}})


def keep(indices: list[Any]) -> Change:
    return lambda plan: plan["kept"].update({next(iter(plan["kept"])): indices})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rows([0, 8]), "beyond dimension 0"),
        (rows([0, 2**80]), "beyond dimension 0"),
        (rows([2**80, 1]), "not strictly rising"),
        (rows([1, 1]), "not strictly rising"),
        (rows([-1, 2]), "greater than or equal to 0"),
        (rows([True, 2]), "valid integer"),
        (rows(["1"]), "valid integer"),
        (rows([]), "at least 1 item"),
        (rows([0], dim="-1"), "must be numbers"),
        (rows([0], dim="00"), "must be numbers"),
        (rows([0], dim="9" * 5000), "must be numbers"),
        (rows([0], dim="4"), "no dimension 4"),
        (rows([0, 1]), "of the wrong type or size: 0.0.weight"),
        (keep([3, 3]), "strictly rising"),
        (keep([0, 10**6]), "below its width"),
        (keep([-1]), "greater than or equal to 0"),
        (lambda plan: plan["kept"].update({"elsewhere": [0]}), "below its width"),
        (lambda plan: plan["widths"].update({"0": 0}), "greater than or equal to 1"),
        (lambda plan: plan.update(tensors=[]), "tensors"),
        (lambda plan: plan["result"].update(macs="1e9"), "result.macs"),
        (lambda plan: plan.update(weights_sha256=None), "weights_sha256"),
    ],
)
def test_indices_of_a_plan(saved: Path, change: Change, message: str) -> None:
    edited(saved, change)
    refuses(saved, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update({"0.0.weight": state["0.0.weight"][:, :1]}), "of the wrong type or size"),
        (lambda state: state.update({"0.0.weight": state["0.0.weight"].double()}), r"got float64"),
        (
            lambda state: state.update({"0.0.weight": state["0.0.weight"].to(torch.complex64)}),
            "got complex64",
        ),
        (lambda state: state.update(other=torch.zeros(1)), "1 unexpected: other"),
        (lambda state: state.pop("0.0.weight"), "1 missing: 0.0.weight"),
    ],
)
def test_shapes_and_types_of_saved_weights(saved: Path, change: Change, message: str) -> None:
    state = dict(safetensors.torch.load_file(saved / WEIGHTS_FILE))
    change(state)
    with_weights(saved, safetensors.torch.save({n: value.contiguous() for n, value in state.items()}))
    refuses(saved, message)


@pytest.mark.parametrize("name", [PLAN_FILE, WEIGHTS_FILE])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(saved: Path, name: str) -> None:
    (saved / name).unlink()
    os.mkfifo(saved / name)
    refuses(saved, "it is no regular file")


def test_what_is_saved_can_be_read(saved: Path) -> None:
    assert isinstance(read_plan(saved), Plan)
    assert isinstance(load(NETWORKS["chain"].model(), saved), nn.Module)
