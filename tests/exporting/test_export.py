"""Exports agree with PyTorch, and what does not agree is caught and leaves nothing behind."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.errors import ConfigError, DataError, ExportError
from autoprune.exporting import FORMATS, export
from autoprune.exporting.agreement import difference
from autoprune.exporting.base import Format, Runner
from autoprune.exporting.onnx import Onnx
from autoprune.exporting.state_dict import StateDict
from autoprune.graph import Slicer
from tests.small import NETWORKS, graph_of, random_kept


class Several(nn.Module):
    """Two inputs by position, one by name, one unused; outputs nested and partly None."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(5, 3)

    def forward(
        self, image: Tensor, mask: Tensor, *, unused: Tensor | None = None, bias: Tensor | None = None
    ) -> dict[str, Any]:
        one, two = self.first(image), self.second(mask)
        return {"sum": one + two + bias, "none": None, "parts": (one, two)}


class Tied(nn.Module):
    """One weight under two names, and a buffer that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.scale: Tensor
        self.register_buffer("scale", torch.linspace(1, 2, 4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x) * self.scale)
        return out


class OnlyThree(nn.Module):
    """Knows its batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights


def pruned(name: str) -> nn.Module:
    small = NETWORKS[name]
    model = small.model()
    graph = graph_of(model, small.images(1))
    return Slicer(model, graph).build(random_kept(graph)).eval()


def several() -> tuple[nn.Module, Inputs]:
    torch.manual_seed(0)
    kwargs = {"bias": torch.randn(3, 3), "unused": torch.randn(3, 2)}
    return Several(), Inputs((torch.randn(3, 4), torch.randn(3, 5)), kwargs)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*")]


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("name", NETWORKS)
def test_pruned_networks_agree(name: str, to: str, tmp_path: Path) -> None:
    network, path = pruned(name), tmp_path / "sub" / "network"
    found = export(network, NETWORKS[name].images(3), path, to)
    assert set(found.differences) == {1, 8}
    assert max(found.differences.values()) <= FORMATS[to].tolerance
    assert leftovers(tmp_path) == ["sub", "network"] and found.bytes == path.stat().st_size
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("to", FORMATS)
def test_several_inputs_and_nested_outputs(to: str, tmp_path: Path) -> None:
    network, inputs = several()
    found = export(network, inputs, tmp_path / "network", to)
    assert max(found.differences.values()) <= FORMATS[to].tolerance


def test_onnx_runs_at_any_batch_size_by_the_names_of_the_forward(tmp_path: Path) -> None:
    network, inputs = several()
    export(network, inputs, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    assert {entry.name: entry.shape[0] for entry in session.get_inputs()} == dict.fromkeys(
        ["image", "mask", "bias", "unused"], "batch"
    )
    batch = {"image": torch.randn(5, 4), "mask": torch.randn(5, 5), "bias": torch.randn(5, 3)}
    feed = {name: value.numpy() for name, value in batch.items()} | {"unused": torch.zeros(5, 2).numpy()}
    found = torch.from_numpy(session.run(None, feed)[0])
    torch.testing.assert_close(found, network(**batch)["sum"])


def test_pt2_runs_at_any_batch_size(tmp_path: Path) -> None:
    network = pruned("residual")
    export(network, NETWORKS["residual"].images(1), tmp_path / "network.pt2", "pt2")
    images = NETWORKS["residual"].images(11)
    found = torch.export.load(tmp_path / "network.pt2").module()(images)
    torch.testing.assert_close(found, network(images))


def test_a_state_dict_loads_onto_the_small_architecture(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, fresh = Tied(), Tied()
    export(network, torch.randn(2, 4), tmp_path / "network.safetensors", "state-dict")
    safetensors.torch.load_model(fresh, tmp_path / "network.safetensors")
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("to", FORMATS)
def test_the_network_stays_as_it_was(to: str, tmp_path: Path) -> None:
    network = pruned("chain").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export(network, NETWORKS["chain"].images(2), tmp_path / "network", to)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_a_network_that_knows_its_batch_size_needs_a_fixed_one(to: str, tmp_path: Path) -> None:
    path = tmp_path / "network"
    with pytest.raises(ExportError, match=r"OnlyThree cannot be exported.*--batch 1"):
        export(OnlyThree(), torch.randn(3, 4), path, to)
    assert leftovers(tmp_path) == []
    assert set(export(OnlyThree(), torch.randn(2, 4), path, to, batch=3).differences) == {3}


@pytest.mark.parametrize("to", FORMATS)
def test_a_wrong_weight_is_caught(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = type(FORMATS[to])
    write = form.write

    def faulty(self: Format, network: nn.Module, example: Inputs, path: Path, *, dynamic: bool) -> None:
        weight = next(network.parameters())
        right = weight.detach().clone()
        with torch.no_grad():
            weight.view(-1)[0] += 1e-2
            write(self, network, example, path, dynamic=dynamic)
            weight.copy_(right)

    monkeypatch.setattr(form, "write", faulty)
    with pytest.raises(ExportError, match=r"does not agree with PyTorch: relative difference \d\.\de-0\d"):
        export(pruned("chain"), NETWORKS["chain"].images(2), tmp_path / "network", to)
    assert leftovers(tmp_path) == []


def test_a_file_that_lacks_a_tensor_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(self: Format, network: nn.Module, example: Inputs, path: Path, *, dynamic: bool) -> None:
        state = network.state_dict()
        state.popitem()
        safetensors.torch.save_file(state, path)

    monkeypatch.setattr(StateDict, "write", lacking)
    with pytest.raises(ExportError, match="cannot be read back"):
        export(pruned("chain"), NETWORKS["chain"].images(2), tmp_path / "network", "state-dict")


@pytest.mark.parametrize("to", FORMATS)
def test_a_file_that_cannot_be_read_is_caught(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(self: Format, network: nn.Module, example: Inputs, path: Path, *, dynamic: bool) -> None:
        path.write_bytes(b"torn")

    path = tmp_path / "network"
    path.write_bytes(b"of before")
    monkeypatch.setattr(type(FORMATS[to]), "write", torn)
    with pytest.raises(ExportError, match="cannot be read back"):
        export(pruned("chain"), NETWORKS["chain"].images(2), path, to, force=True)
    assert leftovers(tmp_path) == ["network"] and path.read_bytes() == b"of before"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_do_not_agree(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Format, path: Path, network: nn.Module) -> Runner:
        return lambda inputs: [torch.full_like(network(*inputs.args), value)]

    monkeypatch.setattr(StateDict, "read", broken)
    with pytest.raises(ExportError, match="relative difference inf"):
        export(pruned("chain"), NETWORKS["chain"].images(2), tmp_path / "network", "state-dict")


def test_a_network_without_finite_outputs_is_refused(tmp_path: Path) -> None:
    network = pruned("chain")
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with pytest.raises(ExportError, match="not finite"):
        export(network, NETWORKS["chain"].images(2), tmp_path / "network", "state-dict")


def test_more_than_one_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two(self: Format, network: nn.Module, example: Inputs, path: Path, *, dynamic: bool) -> None:
        path.write_bytes(b"")
        path.with_suffix(".data").write_bytes(b"")

    monkeypatch.setattr(Onnx, "write", two)
    with pytest.raises(ExportError, match="too large for one"):
        export(pruned("chain"), NETWORKS["chain"].images(2), tmp_path / "network")
    assert leftovers(tmp_path) == []


def test_a_file_that_exists_is_kept_without_force(tmp_path: Path) -> None:
    network, images, path = pruned("chain"), NETWORKS["chain"].images(2), tmp_path / "network"
    path.write_bytes(b"mine")
    with pytest.raises(ExportError, match="exists; pass --force"):
        export(network, images, path, "state-dict")
    assert path.read_bytes() == b"mine"
    export(network, images, path, "state-dict", force=True)
    assert path.read_bytes() != b"mine"


def test_places_that_hold_no_file(tmp_path: Path) -> None:
    network, images = pruned("chain"), NETWORKS["chain"].images(2)
    with pytest.raises(ExportError, match="it is a folder"):
        export(network, images, tmp_path, "state-dict", force=True)
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="no folder that can be written to"):
        export(network, images, tmp_path / "file" / "network", "state-dict")


def test_arguments_that_cannot_be(tmp_path: Path) -> None:
    network, images = pruned("chain"), NETWORKS["chain"].images(2)
    with pytest.raises(ConfigError, match=r"unknown export format 'onxx'; did you mean 'onnx'"):
        export(network, images, tmp_path / "network", "onxx")
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        export(network, images, tmp_path / "network", "pt2", batch=0)
    with pytest.raises(DataError, match="at least one example input"):
        export(network, images[:0], tmp_path / "network", "pt2")
    with pytest.raises(ConfigError, match=r"must be an nn\.Module, got int"):
        export(3, images, tmp_path / "network", "pt2")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"'.onnx' is the suffix of onnx, but the export is to pt2"):
        export(network, images, tmp_path / "network.onnx", "pt2")


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else find(name, *rest)
    )
    with pytest.raises(ConfigError, match=r"needs onnxscript.*pip install 'autoprune\[onnx\]'"):
        export(pruned("chain"), NETWORKS["chain"].images(2), tmp_path / "network.onnx")


@pytest.mark.parametrize("to", FORMATS)
def test_a_network_in_half_precision_is_compared_in_its_own(to: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 16, 3), nn.Flatten(1))
    found = export(network.half().eval(), torch.randn(4, 3, 10, 10).half(), tmp_path / "net", to=to)
    assert max(found.differences.values()) < 4e-3


def test_imaginary_parts_are_compared_too() -> None:
    assert difference([torch.tensor([1 + 5j])], [torch.tensor([1 + 0j])]) == pytest.approx(5.0)
    assert difference([torch.tensor([1 + 5j])], [torch.tensor([1 + 5j])]) == 0.0


def test_labels_beside_the_example_are_dropped(tmp_path: Path) -> None:
    network, masks = nn.Conv2d(3, 4, 3, padding=1).eval(), torch.zeros(8, 6, 6, dtype=torch.long)
    export(network, (torch.randn(8, 3, 6, 6), masks), tmp_path / "net.pt2", "pt2")
    assert (tmp_path / "net.pt2").exists()
