"""torch-pruning: global ranking over all groups, step by step until the budget is met.

Taylor and Hessian scores come from the loss on a few labelled training images, anew before every step. Where
its groups differ from autoprune's (a shortcut that pads channels: it removes others than those that meet in
the sum), a second entry keeps those layers whole: fewer channels to choose from, but all of them right. Its
seconds include counting MACs before every step, and the translation into autoprune's groups.
"""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from contestants.channels import (
    Untranslatable,
    one_unit,
    same_output,
    survivors,
    tagged,
    to_kept,
    units,
)
from contestants.ring import Choice, Contestant, LeftOut, Ring

Gradients = Callable[[Ring, nn.Module, Any], None]


def no_gradients(ring: Ring, network: nn.Module, importance: Any) -> None:
    return None


def mean_gradient(ring: Ring, network: nn.Module, importance: Any) -> None:
    network.zero_grad()
    for inputs, labels in ring.labelled():
        with torch.enable_grad():
            F.cross_entropy(inputs.call(network), labels).backward()


def squared_gradients(ring: Ring, network: nn.Module, importance: Any) -> None:
    """One gradient per image, as its Hessian importance wants to be fed."""
    importance.zero_grad()
    for inputs, labels in ring.labelled():
        for image in range(len(labels)):
            network.zero_grad()
            with torch.enable_grad():
                scores = inputs.slice(image, image + 1).call(network)
                F.cross_entropy(scores, labels[image : image + 1]).backward()
            importance.accumulate_grad(network)


def magnitude(tp: Any) -> tuple[Any, Any]:
    return tp.pruner.MagnitudePruner, tp.importance.MagnitudeImportance(p=1)


def group_norm(tp: Any) -> tuple[Any, Any]:
    return tp.pruner.GroupNormPruner, tp.importance.GroupMagnitudeImportance(p=2)


def taylor(tp: Any) -> tuple[Any, Any]:
    return tp.pruner.BasePruner, tp.importance.GroupTaylorImportance()


def hessian(tp: Any) -> tuple[Any, Any]:
    return tp.pruner.BasePruner, tp.importance.GroupHessianImportance()


def choose(parts: Callable[[Any], tuple[Any, Any]], gradients: Gradients, ours: bool, ring: Ring) -> Choice:
    """`ours`: layers whose channels it groups otherwise than autoprune stay whole."""
    import torch_pruning as tp

    network = copy.deepcopy(ring.model).requires_grad_(True)
    whole = output_layers(ring, network)
    if ours:
        others = foreign_layers(tp, ring, network, whole)
        if not others:
            raise LeftOut("all its groups are autoprune's: the same as without this restriction")
        whole = [*whole, *others]
    pruner_class, importance = parts(tp)
    with warnings.catch_warnings(action="ignore"):
        pruner = pruner_class(
            network,
            ring.example,
            importance=importance,
            global_pruning=True,
            pruning_ratio=1.0,
            iterative_steps=ring.settings.steps,
            ignored_layers=whole,
        )
        for _ in range(ring.settings.steps):
            if ring.fits(network):
                break
            gradients(ring, network, importance)
            pruner.step()
    network = network.requires_grad_(False).eval()
    return translated(tp, ring, network, pruner.pruning_history())


def output_layers(ring: Ring, network: nn.Module) -> list[nn.Module]:
    """Its users name the layers that give the network's answer; autoprune finds them."""
    names = {group.name for group in ring.graph.frozen if group.reason == "network output"}
    return [network.get_submodule(name) for name in names]


def foreign_layers(tp: Any, ring: Ring, network: nn.Module, whole: list[nn.Module]) -> list[nn.Module]:
    """Layers that give channels which torch-pruning ties otherwise than autoprune."""
    dependencies = tp.DependencyGraph().build_dependency(network, ring.example)
    names = {module: name for name, module in network.named_modules()}
    known, found = units(ring.graph), []
    for group in dependencies.get_all_groups(ignored_layers=whole):
        by_root, layers = defaultdict(set), []
        for item in group:
            module, outputs = item.dep.target.module, dependencies.is_out_channel_pruning_fn(item.dep.handler)
            if isinstance(module, nn.Conv2d | nn.Linear):
                dim = 0 if outputs else 1
                layers += [module] if outputs else []
                for position, root in zip(item.idxs, item.root_idxs, strict=True):
                    by_root[root].add(known.get((f"{names[module]}.weight", dim, position)))
        if not all(one_unit(tied) for tied in by_root.values()):
            found += layers
    return found


def translated(tp: Any, ring: Ring, network: nn.Module, history: list[Any]) -> Choice:
    """Its pruning done again on a copy whose weights carry their positions."""
    copied = tagged(ring.model, ring.graph)
    dependencies = tp.DependencyGraph().build_dependency(copied, ring.example.double())
    dependencies.load_pruning_history(history)
    try:
        kept = to_kept(ring.graph, survivors(copied, ring.graph))
    except Untranslatable as error:
        return Choice(network, why=str(error))
    if not same_output(network, ring.sliced(kept), ring.example):
        return Choice(network, why="the translated network answers otherwise than its own")
    return Choice(network, kept)


_SCORES: dict[str, tuple[Callable[[Any], tuple[Any, Any]], Gradients]] = {
    "global L1": (magnitude, no_gradients),
    "group norm": (group_norm, no_gradients),
    "Taylor": (taylor, mean_gradient),
    "Hessian": (hessian, squared_gradients),
}
CONTESTANTS = [
    Contestant(
        f"torch-pruning {name}{', shared groups only' if ours else ''}",
        partial(choose, parts, gradients, ours),
        ("none", "batch norm", "sequential"),
    )
    for name, (parts, gradients) in _SCORES.items()
    for ours in (False, True)
]
