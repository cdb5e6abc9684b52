from __future__ import annotations

import copy
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.errors import PlanError
from autoprune.graph import Slicer, find_groups
from autoprune.plan import PLAN_FILE, WEIGHTS_FILE, Plan, check_output, load, make_plan, save_plan
from autoprune.searching.front import Point

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.first, self.second = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.second(F.relu(self.first(x)))
        return self.head(x.mean((2, 3)))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.depth = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 12, 3, groups=6)
        self.norm, self.last = nn.BatchNorm2d(12), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.hardswish(self.norm(self.depth(self.first(x)))))


class Flatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6 * 36, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(F.relu(self.conv(x)).flatten(1))))


class Tied(nn.Module):
    """One weight under two names, and a per-channel buffer that the state dict leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 1), nn.Conv2d(6, 8, 1)
        self.right.weight = self.left.weight
        self.last = nn.Conv2d(8, 4, 1)
        self.scale: Tensor
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 6).view(6, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x)) * self.scale
        return self.last(F.relu(self.left(x)) + self.right(x))


NETWORKS: list[Callable[[], nn.Module]] = [Residual, Depthwise, Flatten, Tied]


def point(kept: dict[str, Tensor]) -> Point:
    return Point(
        trial=3,
        macs=10,
        macs_ratio=0.5,
        params=10,
        params_ratio=0.5,
        bytes=40,
        accuracy=0.9,
        accuracy_before_reconstruction=0.1,
        output_error=0.2,
        widths={},
        rates={},
        batch_removal=1,
        criterion="second-moment",
        kept=kept,
    )


def save(network: nn.Module, folder: Path) -> tuple[nn.Module, Plan]:
    """Half of every group goes; the weights that stay are changed, as a reconstruction would."""
    graph = find_groups(network.eval(), (IMAGE[:1],))
    assert graph.groups
    kept = {group.name: torch.arange(0, group.width, 2) for group in graph.groups}
    built = Slicer(network, graph).build(kept).eval()
    with torch.no_grad():
        for tensor in (*built.parameters(), *(b for b in built.buffers() if b.is_floating_point())):
            if "scale" not in dict(built.named_buffers()) or tensor is not built.scale:
                tensor.add_(torch.rand_like(tensor))
    return built, save_plan(folder, built, make_plan(network, graph, point(kept), study="test"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(Residual(), tmp_path / "pruned")
    return tmp_path / "pruned"


@pytest.mark.parametrize("network", NETWORKS)
def test_a_loaded_network_equals_the_built_one_bit_for_bit(
    tmp_path: Path, network: Callable[[], nn.Module]
) -> None:
    built, _ = save(network(), tmp_path / "sub" / "pruned")
    fresh = network().train()
    loaded = load(fresh, tmp_path / "sub" / "pruned")
    assert loaded is fresh and not loaded.training
    expected, found = built.state_dict(), loaded.state_dict()
    assert list(expected) == list(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert torch.equal(built(IMAGE), loaded(IMAGE))
    assert repr(built) == repr(loaded)
    loaded(IMAGE).sum().backward()


def test_a_tied_weight_is_stored_once_and_stays_tied(tmp_path: Path) -> None:
    save(Tied(), tmp_path)
    loaded = load(Tied(), tmp_path)
    assert loaded.left.weight is loaded.right.weight
    assert "right.weight" not in safetensors.torch.load_file(tmp_path / WEIGHTS_FILE)


def test_parameters_keep_requires_grad(saved: Path) -> None:
    fresh = Residual()
    fresh.stem.weight.requires_grad_(False)
    loaded = load(fresh, saved)
    assert not loaded.stem.weight.requires_grad and loaded.head.weight.requires_grad


def test_two_files_readable_as_others_and_nothing_else(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == [PLAN_FILE, WEIGHTS_FILE]
    assert all(path.stat().st_mode & stat.S_IRUSR for path in saved.iterdir())
    values = json.loads((saved / PLAN_FILE).read_text())
    assert values["study"] == "test" and values["trial"] == 3
    assert values["model"].endswith("Residual") and values["kept"]["first"] == [0, 2, 4, 6, 8, 10]
    assert values["tensors"]["first.bias"] == {"0": [0, 2, 4, 6, 8, 10]}


def test_a_folder_that_is_not_empty_needs_force(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    before = (saved / WEIGHTS_FILE).read_bytes()
    graph = find_groups(Residual().eval(), (IMAGE[:1],))
    network = Residual().eval()
    plan = make_plan(network, graph, point({}), study="other")
    with pytest.raises(PlanError, match=r"not empty.*--force"):
        save_plan(saved, network, plan)
    assert (saved / WEIGHTS_FILE).read_bytes() == before
    save_plan(saved, network, plan, force=True)
    assert torch.equal(load(Residual(), saved)(IMAGE), network(IMAGE))
    assert (saved / "notes.txt").read_text() == "mine"


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(PlanError, match="is a file"):
            check_output(place, force=True)


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads((folder / PLAN_FILE).read_text())
    change(values)
    (folder / PLAN_FILE).write_text(json.dumps(values))


def set_rows(indices: list[Any], dim: str = "0") -> Callable[[dict[str, Any]], None]:
    return lambda plan: plan["tensors"].update({"first.weight": {dim: indices}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_rows([0, 99]), "beyond dimension 0"),
        (set_rows([2, 0]), "not strictly rising"),
        (set_rows([1, 1]), "not strictly rising"),
        (set_rows([-1, 3]), "greater than or equal to 0"),
        (set_rows([]), "at least 1 item"),
        (set_rows([0.5]), "valid integer"),
        (set_rows([0, 1], dim="7"), "no dimension 7"),
        (set_rows([0, 1], dim="x"), "must be numbers"),
        (set_rows([0, 1]), "of the wrong type or size: first.weight"),
        (lambda plan: plan["tensors"].update({"../../etc": {"0": [0]}}), "unknown tensor"),
        (lambda plan: plan.update(schema_version=2), "schema 1, got 2"),
        (lambda plan: plan.update(run="import os"), "run: Extra inputs"),
        (lambda plan: plan.pop("kept"), "kept: Field required"),
        (lambda plan: plan.update(weights_sha256="0"), "damaged or belongs to another plan"),
    ],
)
def test_a_plan_that_does_not_fit_leaves_the_model_alone(
    saved: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edited(saved, change)
    model = Residual()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PlanError, match=message):
        load(model, saved)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff\xfe\x00"])
def test_a_damaged_plan_is_refused(saved: Path, content: bytes) -> None:
    (saved / PLAN_FILE).write_bytes(content)
    with pytest.raises(PlanError, match=r"plan\.json"):
        load(Residual(), saved)


@pytest.mark.parametrize("name", [PLAN_FILE, WEIGHTS_FILE])
def test_a_missing_or_cut_file_is_refused(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(PlanError):
        load(Residual(), saved)
    (saved / name).unlink()
    with pytest.raises(PlanError, match="cannot be read: No such file"):
        load(Residual(), saved)


def test_another_class_a_pruned_one_or_another_type_is_refused(saved: Path) -> None:
    with pytest.raises(PlanError, match="unknown tensor"):
        load(Depthwise(), saved)
    with pytest.raises(PlanError, match=r"fresh .*Residual, not yet pruned"):
        load(load(Residual(), saved), saved)
    with pytest.raises(PlanError, match=r"wanted float64.*got float32"):
        load(Residual().double(), saved)
    with torch.device("meta"), pytest.raises(PlanError, match="meta device"):
        load(Residual(), saved)


def test_a_folder_of_several_networks_or_a_class_is_refused_with_what_to_give(
    saved: Path, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=rf"give one of the folders in it: .*{saved.name}"):
        load(Residual(), saved.parent)
    with pytest.raises(PlanError, match=r"got Residual; pass an instance, such as Residual\(\)"):
        load(Residual, saved)  # type: ignore[arg-type]
