"""`autoprune export`: which network, which file, and how it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import nn
from typer.testing import Result

from autoprune.cli.options import read_study
from autoprune.data.inputs import Inputs
from autoprune.exporting.base import Format
from autoprune.exporting.pt2 import Pt2
from autoprune.plan import load
from autoprune.session import Session
from autoprune.storing.storages import open_storage
from tests.cli.test_commands import assert_refused

Invoke = Callable[..., Result]
Document = Callable[..., Any]
IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def dense(folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The study's network."""
    monkeypatch.chdir(folder)
    return Session.open(read_study(Path("tiny.toml")), storage=open_storage(None)).model


def test_help_has_an_example(invoke: Invoke) -> None:
    result = invoke("export", "--help")
    shown = " ".join(result.stdout.split())
    assert result.exit_code == 0 and "Example: autoprune export" in shown
    assert "pip install 'autoprune[onnx]'" in shown
    assert all(option in shown for option in ("--json", "--quiet", "--device", "--storage", "--plan"))


def test_the_best_network_within_a_budget(document: Document, tmp_path: Path) -> None:
    found = document("export", "tiny.toml", "--macs", "0.9", "--to", "onnx", "-o", tmp_path / "net.onnx")
    front = document("front", "tiny.toml")["front"]
    point = next(point for point in front if point["trial"] == found["trial"])
    assert found["macs"] == point["macs"] and found["macs_ratio"] <= 0.9
    assert set(found["relative_difference"]) == {"1", "8"}
    assert max(found["relative_difference"].values()) <= found["tolerance"] == 1e-4
    session = onnxruntime.InferenceSession(found["file"], providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 1, 8, 8]
    assert session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})[0].shape == (5, 10)


@pytest.mark.parametrize("to", ["pt2", "state-dict"])
def test_a_saved_network_is_exported_as_it_is(
    document: Document, invoke: Invoke, dense: nn.Module, tmp_path: Path, to: str
) -> None:
    plan, out = tmp_path / "plan", tmp_path / "network"
    built = document("build", "tiny.toml", "--macs", "0.9", "--out", plan)
    # No trial is needed: the storage of this study does not exist.
    options = ("--plan", plan, "--storage", tmp_path / "none.journal")
    found = document("export", "tiny.toml", *options, "--to", to, "-o", out)
    assert not (tmp_path / "none.journal").exists()
    assert (found["trial"], found["macs"], found["format"]) == (built["trial"], built["macs"], to)
    network = load(dense, plan)
    if to == "pt2":
        torch.testing.assert_close(torch.export.load(out).module()(IMAGES), network(IMAGES))
    else:
        state = safetensors.torch.load_file(out)
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_trial_and_a_fixed_batch(invoke: Invoke, document: Document, tmp_path: Path) -> None:
    trial, out = document("front", "tiny.toml")["front"][0]["trial"], tmp_path / "net.pt2"
    command = ("export", "tiny.toml", "--trial", trial, "--to", "pt2", "-o", out)
    result = invoke(*command, "--batch", 3, "-q")
    assert result.exit_code == 0, result.output
    assert f"trial {trial}, " in result.stdout and "agrees with PyTorch on batches of 3" in result.stdout
    assert_refused(invoke(*command), "net.pt2", "exists; pass --force")
    assert invoke(*command, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ((), ("export needs --macs R", "--plan DIR")),
        (("--macs", "0.9", "--trial", "0"), ("give one",)),
        (("--params", "0.9", "--plan", "plan"), ("give one",)),
        (("--macs", "0.9", "--batch", "many"), ("--batch wants 'dynamic' or a number", "'many'")),
        (("--macs", "0.9", "--batch", "0"), ("at least 1, got 0",)),
        (("--macs", "0.0001"), ("macs",)),
        (("--plan", "nowhere"), ("nowhere", "cannot be read")),
    ],
)
def test_what_is_refused(
    invoke: Invoke, tmp_path: Path, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    out = tmp_path / "net.pt2"
    result = invoke("export", "tiny.toml", "--to", "pt2", "-o", out, *options)
    assert_refused(result, *parts)
    assert not out.exists()


def test_a_broken_export_is_refused_with_the_difference(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Pt2.write

    def faulty(self: Format, network: nn.Module, example: Inputs, path: Path, *, dynamic: bool) -> None:
        weight = next(network.parameters())
        right = weight.detach().clone()
        with torch.no_grad():
            weight.mul_(1.5)
            write(self, network, example, path, dynamic=dynamic)
            weight.copy_(right)

    monkeypatch.setattr(Pt2, "write", faulty)
    result = invoke("export", "tiny.toml", "--macs", "0.9", "--to", "pt2", "-o", tmp_path / "net.pt2", "-q")
    assert_refused(result, "does not agree with PyTorch", "relative difference", "wanted at most 1e-06")
    assert not list(tmp_path.iterdir())
