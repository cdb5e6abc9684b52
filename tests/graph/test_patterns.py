from __future__ import annotations

import pytest
import torch

from autoprune.errors import ConfigError
from autoprune.graph import find_groups
from autoprune.graph.patterns import caps_of, check_patterns, names_of
from tests.small import NETWORKS

MODEL = NETWORKS["residual"].model()
GRAPH = find_groups(MODEL, (NETWORKS["residual"].images(1),))


def test_a_group_has_the_least_cap_of_its_patterns() -> None:
    names = list(GRAPH.widths)
    assert set(caps_of(GRAPH, {}).values()) == {1.0}
    caps = caps_of(GRAPH, {"*": 0.7, f"{names[1]}*": 0.2, names[0]: 0.9})
    assert caps[names[1]] == 0.2 and caps[names[0]] == 0.7 and set(caps) == set(names)


def test_any_module_that_computes_the_channels_names_a_group() -> None:
    shared = next(group for group in GRAPH.groups if len(names_of(group)) > 2)
    for name in names_of(shared):
        assert caps_of(GRAPH, {name: 0.1})[shared.name] == 0.1
    consumers = {layer.name for layer in GRAPH.consumers(shared)} - names_of(shared)
    assert all(caps_of(GRAPH, {name: 0.1})[shared.name] == 1.0 for name in consumers)


def test_what_is_frozen_may_be_named_and_what_is_not_there_not() -> None:
    assert set(caps_of(GRAPH, {GRAPH.frozen[0].name: 0.5}).values()) == {1.0}
    with pytest.raises(ConfigError, match=r"caps 'stam.\*' matches no module .*did you mean 'stem"):
        caps_of(GRAPH, {"stam.*": 0.5})
    check_patterns("ignore", ["stem", "a?.*", "head"], MODEL)
    with pytest.raises(ConfigError, match=r"ignore 'head\.\*' .*did you mean 'head'"):
        check_patterns("ignore", ["head.*"], MODEL)
    with pytest.raises(ConfigError, match="autoprune groups"):
        check_patterns("ignore", ["zzz"], torch.nn.Linear(2, 2))
