"""Weights on disk: read without ever running what is in the file, fitted key by key, saved atomically."""

from __future__ import annotations

import io
import pickle
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from autoprune.errors import ModelError, listed
from autoprune.models.checking import check_finite
from autoprune.tensors import is_plain

State = dict[str, Tensor]
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")
# Counters and code-defined state that many published files leave out; eval mode does not read them.
OPTIONAL = ("num_batches_tracked", "_extra_state")


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy the tensors of a file into the model.

    Raises ModelError for a missing or damaged file, pickled code, keys that do not fit, NaN or infinity.
    """
    state = _without_prefix(read_state(Path(path).expanduser()), model.state_dict())
    _check_fit(model.state_dict(), state, str(path))
    model.load_state_dict(state, strict=False)
    check_finite(model, str(path))


def read_state(path: Path) -> State:
    """The tensors of a .safetensors file or of a torch state dict, wrappers taken off."""
    if not path.is_file():
        raise ModelError(f"weights file '{path}' does not exist; check [model] weights")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return _unwrapped(content, path)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the state dict as the name of the file says: safetensors, or as torch does.

    A file that another process put there first is kept.
    """
    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    state = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        temporary.write_bytes(_as_bytes(state, path))
        _publish(temporary, path)


def _as_bytes(state: State, path: Path) -> bytes:
    """What `read_state` reads from a file of this name."""
    if path.suffix == ".safetensors":
        # Not save_file: its files are readable by their owner alone.
        return safetensors.torch.save(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _publish(temporary: Path, path: Path) -> None:
    # A hard link fails where the file exists, so all workers that train at once end with the same weights.
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        temporary.replace(path)


def _read_safetensors(path: Path) -> object:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, RuntimeError, KeyError) as error:
        raise ModelError(f"weights file '{path}' is not a readable safetensors file: {error}") from error


def _read_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            # A pickle of another protocol: what is wrong with it is said by the errors below.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"weights file '{path}' is not a plain state dict (it holds pickled code, which is never run, or "
            "is damaged); save model.state_dict() with torch.save or safetensors"
        ) from error
    except Exception as error:
        # Bytes that are no torch file fail in the reader wherever they happen to mislead it.
        first = (str(error).splitlines() or ["empty file"])[0]
        raise ModelError(f"weights file '{path}' is damaged or no torch file: {first}") from error


def _unwrapped(content: Any, path: Path) -> State:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"weights file '{path}' must hold a state dict, got {type(content).__name__}")
    odd = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    odd = [name for name in odd if not name.endswith(OPTIONAL)]
    if odd:
        raise ModelError(f"weights file '{path}' must hold only tensors, but not: {listed(odd, 5)}")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    hollow = [name for name, value in tensors.items() if not is_plain(value)]
    if hollow:
        raise ModelError(f"weights file '{path}' must hold dense tensors, but not: {listed(hollow, 5)}")
    return tensors


def _without_prefix(state: State, wanted: Mapping[str, Any]) -> State:
    """Without what parallel and compiled networks put before every name, unless the model has it as well."""
    # A compiled network in a parallel one, or the other way round.
    for prefix in (*PREFIXES, *PREFIXES):
        known = any(name.startswith(prefix) for name in wanted)
        if not known and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _check_fit(wanted: Mapping[str, Any], state: State, source: str) -> None:
    tensors = {name: value for name, value in wanted.items() if isinstance(value, Tensor)}
    missing = [name for name in tensors if name not in state and not name.endswith(OPTIONAL)]
    unexpected = [name for name in state if name not in wanted and not name.endswith(OPTIONAL)]
    wrong = [
        f"{name} (model {_kind(value)}, file {_kind(state[name])})"
        for name, value in tensors.items()
        if name in state and _kind(value) != _kind(state[name])
    ]
    found = {"missing": missing, "unexpected": unexpected, "of the wrong shape or type": wrong}
    problems = [f"{len(names)} {what}: {listed(names, 5)}" for what, names in found.items() if names]
    if problems:
        raise ModelError(f"weights '{source}' do not fit the model; {'; '.join(problems)}")


def _kind(value: Tensor) -> str:
    # float16 into float32 is a fair copy; integers (a quantised file) into floats are not.
    return f"{'float' if value.is_floating_point() else 'other'}{list(value.shape)}"
