"""Weights of others: nothing in them runs."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import DataError, ModelError, StudyError
from autoprune.models import load_weights
from autoprune.storing.artifacts import read_tensors
from autoprune.training import History
from tests.trust.traps import KINDS, Trap, write_trap


def test_a_trap_works_where_it_is_unpickled(flag: Path) -> None:
    pickle.loads(pickle.dumps(Trap(flag)))
    assert flag.exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin", "w.safetensors"])
def test_weights_of_a_model(tmp_path: Path, flag: Path, kind: str, name: str) -> None:
    write_trap(tmp_path / name, flag, kind)
    with pytest.raises(ModelError, match=r"weights file '.*' is (not|damaged)"):
        load_weights(nn.Linear(3, 2), tmp_path / name)
    assert not flag.exists()


def test_a_scripted_module_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning):
        torch.jit.script(nn.Linear(3, 2)).save(str(tmp_path / "w.pth"))
    with pytest.raises(ModelError, match="weights file"):
        load_weights(nn.Linear(3, 2), tmp_path / "w.pth")


@pytest.mark.parametrize("force", [None, "1"])
def test_the_environment_cannot_allow_pickles(
    tmp_path: Path, flag: Path, monkeypatch: pytest.MonkeyPatch, force: str | None
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", force or "0")
    write_trap(tmp_path / "w.pth", flag, "zip")
    with pytest.raises(ModelError, match="never run"):
        load_weights(nn.Linear(3, 2), tmp_path / "w.pth")
    assert not flag.exists()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 3, device="meta"),
        torch.eye(2, 3).to_sparse(),
        torch.nested.nested_tensor([torch.zeros(3), torch.zeros(3)], layout=torch.jagged),
    ],
    ids=["meta", "sparse", "nested"],
)
def test_tensors_without_all_their_values(tmp_path: Path, tensor: Tensor) -> None:
    torch.save({"weight": tensor, "bias": torch.zeros(2)}, tmp_path / "w.pth")
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(ModelError, match="weights file"):
        load_weights(model, tmp_path / "w.pth")
    assert torch.equal(model.weight, before)


def safetensors_of(kind: str) -> bytes:
    """A well-formed file whose one tensor has a type that torch, or its reader, does not know."""
    header = json.dumps({"a": {"dtype": kind, "shape": [8], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 8


@pytest.mark.parametrize("content", [safetensors_of("F8_E8M0"), safetensors_of("Q7"), b"", b"\0" * 64])
def test_safetensors_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(StudyError, match="safetensors"):
        read_tensors(content, "the weights")
    with pytest.raises(DataError, match="safetensors"):
        History.of_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_histories(tmp_path: Path, flag: Path, kind: str) -> None:
    write_trap(tmp_path / "h.safetensors", flag, kind)
    with pytest.raises(DataError, match="not readable as safetensors"):
        History.load(tmp_path / "h.safetensors")
    assert not flag.exists()
