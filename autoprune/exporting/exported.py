"""Write a network to one file, read the file back, compare, and only then let it take its place."""

from __future__ import annotations

import copy
import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from autoprune.data.inputs import Inputs, most_inputs
from autoprune.errors import ConfigError, ExportError, unknown_name
from autoprune.exporting.agreement import coarsest, differences, samples
from autoprune.exporting.base import Format
from autoprune.exporting.onnx import Onnx
from autoprune.exporting.pt2 import Pt2
from autoprune.exporting.state_dict import StateDict

FORMATS: Mapping[str, Format] = {"onnx": Onnx(), "pt2": Pt2(), "state-dict": StateDict()}
CHECKED = (1, 8)
"""Batch sizes that a file with a free batch size is checked with."""
_ROUNDINGS = 4
"""Steps of the network's own precision that two ways to the same numbers may lie apart."""
TRACED = 2
"""Batch size of the example that is traced: sizes 0 and 1 are special to torch.export."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was checked: per batch size, the largest difference relative to the largest output."""

    path: Path
    to: str
    differences: Mapping[int, float]
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """What `export --json` prints of it."""
        return {
            "file": str(self.path),
            "format": self.to,
            "bytes": self.bytes,
            "relative_difference": {str(size): value for size, value in self.differences.items()},
            "tolerance": FORMATS[self.to].tolerance,
        }


def export(
    network: nn.Module,
    example_inputs: object,
    path: str | Path,
    to: str = "onnx",
    *,
    batch: int | None = None,
    force: bool = False,
) -> Exported:
    """Write `network`, in eval mode, to `path` as `onnx`, `pt2` or `state-dict`; it is not changed.

    `example_inputs` is a batch as loaders yield it (a tensor, or a tuple or dict of them, labels dropped);
    real samples, a few of them, make the best check. The batch size stays free and batches of 1 and 8 are
    checked, or it is fixed to `batch`. The file is read back in its own runtime, and takes its place only if
    the outputs agree with PyTorch within the format's tolerance. Raises ExportError where they do not, where
    the network cannot be traced or `path` not written, and ConfigError where packages are missing.
    """
    target = Path(path)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"what is exported must be an nn.Module, got {type(network).__name__}.")
    check_export(target, to, batch=batch, force=force)
    inputs, form = Inputs.of(example_inputs, most_inputs(network)).to("cpu"), FORMATS[to]
    twin = copy.deepcopy(network).cpu().eval()
    example = samples(inputs, batch or TRACED)
    batches = [samples(inputs, size) for size in (CHECKED if batch is None else (batch,))]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".exporting-") as folder:
            partial = Path(folder) / f"network{form.suffix}"
            _write(form, twin, example, partial, target=target, dynamic=batch is None)
            found = _compare(form, twin, batches, partial, target=target)
            size = partial.stat().st_size
            os.replace(partial, target)
    except OSError as error:
        raise ExportError(f"'{path}' cannot be written: {error.strerror or error}.") from error
    return Exported(path=target, to=to, differences=found, bytes=size)


def check_export(path: str | Path, to: str, *, batch: int | None = None, force: bool = False) -> None:
    """ExportError or ConfigError unless `export` could write there; cheap: call it before any long work."""
    if to not in FORMATS:
        raise ConfigError(unknown_name("export format", to, FORMATS))
    if batch is not None and batch < 1:
        raise ConfigError(f"a fixed batch size must be at least 1, got {batch}.")
    missing = [name for name in FORMATS[to].modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"an export to {to} needs {', '.join(missing)}, which is not installed: "
            "pip install 'autoprune[onnx]'."
        )
    _check_suffix(Path(path).suffix, to)
    _check_place(Path(path), force)


def _check_suffix(suffix: str, to: str) -> None:
    """A file with the suffix of another format would mislead whoever opens it."""
    others = [name for name, form in FORMATS.items() if form.suffix == suffix.lower() and name != to]
    if others:
        raise ConfigError(
            f"'{suffix}' is the suffix of {others[0]}, but the export is to {to}, which is written as "
            f"{FORMATS[to].suffix}; choose another name or format."
        )


def _check_place(path: Path, force: bool) -> None:
    if path.is_dir() or (path.exists() and not force):
        advice = "it is a folder; name a file" if path.is_dir() else "it exists; pass --force (force=True)"
        raise ExportError(f"'{path}' is not written: {advice} or choose another place.")
    parent = next(place for place in path.absolute().parents if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ExportError(f"'{path}' cannot be written: '{parent}' is no folder that can be written to.")


def _write(
    form: Format, network: nn.Module, example: Inputs, path: Path, *, target: Path, dynamic: bool
) -> None:
    try:
        form.write(network, example, path, dynamic=dynamic)
    except OSError:
        raise
    except Exception as error:  # whatever tracing, translating or the user's forward raise
        free = "; a fixed batch size (--batch 1) asks less of the network" if dynamic else ""
        raise ExportError(
            f"'{target}' is not written: {type(network).__name__} cannot be exported: {_cause(error)}{free}."
        ) from error
    if len(list(path.parent.iterdir())) > 1:
        raise ExportError(
            f"'{target}' is not written: the network is too large for one {form.suffix} file; use pt2."
        )


def _compare(
    form: Format, network: nn.Module, batches: Sequence[Inputs], path: Path, *, target: Path
) -> dict[int, float]:
    try:
        found = differences(network, form.read(path, network), batches)
    except ExportError:
        raise
    except Exception as error:  # a runtime may raise anything on a file that it cannot read or run
        raise ExportError(
            f"'{target}' is not written: what was exported cannot be read back and run: {_cause(error)}."
        ) from error
    size, worst = max(found.items(), key=lambda item: item[1])
    tolerance = max(form.tolerance, _ROUNDINGS * coarsest(network, batches[0]))
    if not worst <= tolerance:
        raise ExportError(
            f"'{target}' is not written: what was exported does not agree with PyTorch: relative difference "
            f"{worst:.1e} on a batch of {size}, wanted at most {tolerance:.0e}; try another format."
        )
    return found


def _cause(error: BaseException) -> str:
    """The innermost error in one line: those around it tell how the exporter works."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(".: ")
