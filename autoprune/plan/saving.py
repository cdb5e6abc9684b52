"""Plans on disk: two files in one folder, written atomically and checked where they are read."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

import safetensors.torch
from pydantic import ValidationError
from torch import Tensor, nn

from autoprune.errors import PlanError
from autoprune.graph.state import stored_state
from autoprune.plan.record import SCHEMA, Plan
from autoprune.tensors import read_safetensors

PLAN_FILE = "plan.json"
WEIGHTS_FILE = "weights.safetensors"
SHOWN = 6


def check_output(folder: str | Path, *, force: bool = False) -> None:
    """PlanError unless a plan can be saved there; cheap, so call it before any long work.

    With `force`, the two files are replaced; what else lies in the folder is left alone.
    """
    path = Path(folder)
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise PlanError(f"output folder '{folder}': '{existing}' is a file; choose another place.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PlanError(f"output folder '{folder}': '{existing}' is not writable; choose another place.")
    if existing == path and not force and any(path.iterdir()):
        text = f"output folder '{folder}' is not empty; choose another one, or pass --force (force=True)."
        raise PlanError(text)


def save_plan(folder: str | Path, network: nn.Module, plan: Plan, *, force: bool = False) -> Plan:
    """Write weights.safetensors and plan.json; returns the plan as written, with the weights' digest.

    A tensor with several names is stored once. Raises PlanError for a folder that is not empty.
    """
    check_output(folder, force=force)
    try:
        weights = safetensors.torch.save(stored_state(network))
    except KeyError as error:
        raise PlanError(
            f"tensors of type {error} cannot be stored; save the network in your own way."
        ) from error
    plan = plan.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    try:
        _write(Path(folder), {WEIGHTS_FILE: weights, PLAN_FILE: _readable(plan).encode()})
    except OSError as error:
        raise PlanError(f"output folder '{folder}' cannot be written: {error.strerror}.") from error
    return plan


def read_plan(folder: str | Path) -> Plan:
    """Read and validate plan.json; PlanError for whatever is wrong with it."""
    content = _read(Path(folder), PLAN_FILE)
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"'{Path(folder) / PLAN_FILE}' is not valid JSON: {error}") from error
    found = values.get("schema_version") if isinstance(values, dict) else None
    if found != SCHEMA:
        raise PlanError(
            f"'{Path(folder) / PLAN_FILE}' must be a plan of schema {SCHEMA}, got {str(found)[:20]}; "
            "build it again with this version of autoprune."
        )
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise PlanError(f"'{Path(folder) / PLAN_FILE}': {'; '.join(problems[:3])}{more}") from error


def read_weights(folder: str | Path, plan: Plan) -> dict[str, Tensor]:
    """The saved tensors, on the CPU; PlanError when they are not those that were saved with the plan."""
    path = Path(folder) / WEIGHTS_FILE
    content = _read(Path(folder), WEIGHTS_FILE)
    if hashlib.sha256(content).hexdigest() != plan.weights_sha256:
        raise PlanError(f"'{path}' is damaged or belongs to another plan; build the network again.")
    try:
        return read_safetensors(content)
    except ValueError as error:
        raise PlanError(f"'{path}' is not a readable safetensors file: {error}") from error


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        # A pipe or a device in its place would never end.
        if path.exists() and not path.is_file():
            raise OSError(0, "it is no regular file")
        return path.read_bytes()
    except OSError as error:
        raise PlanError(f"'{path}' cannot be read: {error.strerror}; {_instead(folder)}.") from error


def _instead(folder: Path) -> str:
    """Several budgets are built into folders beside each other."""
    inside = sorted(place.parent.name for place in folder.glob(f"*/{PLAN_FILE}"))
    if inside:
        return f"give one of the folders in it: {', '.join(inside[:SHOWN])}"
    return "give a folder that 'autoprune build' wrote"


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """All files are complete before the first takes its place; the plan, which names the weights, is last."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as temporary:
        for name, content in files.items():
            (Path(temporary) / name).write_bytes(content)
        for name in files:
            os.replace(Path(temporary) / name, folder / name)


def _readable(plan: Plan) -> str:
    """One line per field: json's own indentation would give every index a line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in plan.model_dump().items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"
