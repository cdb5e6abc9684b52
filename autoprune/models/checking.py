"""What every model must be before it is worked on: as a module of its own, with weights that are numbers."""

from __future__ import annotations

from types import CellType, FunctionType

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from autoprune.errors import ModelError


def check_model(model: nn.Module, source: str) -> None:
    """ModelError, with what to do, for a model that is compiled, cannot be copied, or has no finite weights.

    `source` is where the model came from, for the message.
    """
    # torch.compile's wrapper keeps the module in this attribute, nn.Module.compile its call in the other.
    if hasattr(model, "_orig_mod") or model._compiled_call_impl is not None:
        raise ModelError(
            f"{source} is compiled, and so would every candidate be; give it as it was before torch.compile."
        )
    _check_computed(model, source)
    _check_closures(model, source)
    check_finite(model, source)


def check_finite(model: nn.Module, source: str) -> None:
    """ModelError naming the first tensor of the model that has no shape yet or holds NaN or infinity.

    A buffer that is no statistic may hold infinity, as a mask does that is added to an attention's scores.
    """
    masks = {name for name, _ in model.named_buffers() if not name.rpartition(".")[2].startswith("running_")}
    for name, value in model.state_dict().items():
        if is_lazy(value):
            raise ModelError(
                f"weights from '{source}' must have shapes, but '{name}' has none yet; run one batch first."
            )
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            continue
        if value.is_meta:
            raise ModelError(
                f"weights from '{source}' must hold numbers, but '{name}' is on the meta device; load some."
            )
        if value.isnan().any() if name in masks else not value.isfinite().all():
            raise ModelError(f"weights from '{source}' must be finite, but '{name}' holds NaN or infinity")


def _check_closures(model: nn.Module, source: str) -> None:
    """A function that remembers a module calls that module, not the copy's: it must be a method."""
    parts = set(model.modules())
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            held = list(value.values()) if isinstance(value, dict) else [value]
            if any(_remembers(function, parts) for function in held):
                place = f"{path}.{name}".lstrip(".")
                raise ModelError(
                    f"{source} cannot be copied: a function in '{place}' remembers a module of it (a lambda "
                    "or an inner function that names self) and would go on calling that; make it a method."
                )


def _remembers(function: object, parts: set[nn.Module]) -> bool:
    cells = getattr(function, "__closure__", None) or ()
    return isinstance(function, FunctionType) and any(_content(cell) in parts for cell in cells)


def _content(cell: CellType) -> nn.Module | None:
    try:
        content = cell.cell_contents
    except ValueError:  # not set yet
        return None
    return content if isinstance(content, nn.Module) else None


def _check_computed(model: nn.Module, source: str) -> None:
    """A tensor that belongs to a graph of gradients cannot be copied, nor would it follow its weights."""
    for path, module in model.named_modules():
        for name, value in {**vars(module), **module._buffers}.items():
            if isinstance(value, Tensor) and not value.is_leaf:
                place = f"{path}.{name}".lstrip(".")
                raise ModelError(
                    f"{source} cannot be copied: '{place}' is no parameter but was computed from some; undo "
                    "what made it (remove_weight_norm, prune.remove), or set it to None."
                )
