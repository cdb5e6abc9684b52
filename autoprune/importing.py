"""Import paths: how a study file names a user's own code, "package.module:function"."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from autoprune.errors import AutopruneError


def import_function(path: str, purpose: str, error: type[AutopruneError]) -> Callable[..., Any]:
    """The callable at `path`; `purpose` names it in messages, `error` is raised when there is none.

    Modules in the working directory are found as well, as with `python -m`.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise error(f"{purpose} must be an import path 'package.module:function', got '{path}'")
    found = _import(module_name, purpose, error)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise error(f"{purpose} '{path}': module '{module_name}' has no '{attribute}'; check the name")
        found = getattr(found, part)
    if not callable(found):
        raise error(f"{purpose} '{path}' must be callable, got {type(found).__name__}")
    function: Callable[..., Any] = found
    return function


def _import(module_name: str, purpose: str, error: type[AutopruneError]) -> Any:
    # Console scripts, unlike `python -m`, do not search the working directory.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module_name)
    except Exception as cause:
        raise error(
            f"{purpose}: module '{module_name}' does not import ({type(cause).__name__}: {cause}); "
            "install it, or run from the directory that holds it"
        ) from cause
