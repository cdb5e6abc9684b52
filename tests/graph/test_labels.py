"""Labels: unions, freezes, and one channel dimension per activation."""

from __future__ import annotations

import torch

from autoprune.graph.labels import Labels, Ledger, settle


def test_united_labels_share_a_class_and_its_reason() -> None:
    ledger = Ledger()
    first, second = ledger.fresh(3), ledger.fresh(3)
    ledger.unite(first, second, "unused")
    ledger.freeze(second[1:2], "the reason")
    classes = ledger.classes()
    assert (classes.index[first] == classes.index[second]).all()
    assert classes.frozen[classes.index[first]].tolist() == [-1, 0, -1]
    assert classes.reasons[0] == "the reason"


def test_what_meets_the_constant_is_frozen_and_nothing_else() -> None:
    ledger = Ledger()
    labels = ledger.fresh(4)
    ledger.unite(labels, torch.tensor([0, 0, labels[2], labels[2]]), "constant")
    classes = ledger.classes()
    assert classes.free[classes.index[labels]].tolist() == [False, False, True, True]
    assert classes.index[labels[2]] == classes.index[labels[3]]
    assert classes.index[labels[0]] != classes.index[labels[1]]


def test_first_reason_is_reported() -> None:
    ledger = Ledger()
    labels = ledger.fresh(2)
    ledger.freeze(labels, "early")
    ledger.freeze(labels, "late")
    classes = ledger.classes()
    assert [classes.reasons[classes.frozen[classes.index[label]]] for label in labels] == ["early", "early"]


def test_settling_ties_all_but_the_widest_dimension() -> None:
    ledger = Ledger()
    settled = settle(ledger.fresh(6).reshape(1, 2, 3).expand(4, 2, 3), ledger, "unused")
    assert (settled.shape, settled.dim, settled.vector.tolist()) == ((4, 2, 3), 2, [1, 2, 3])
    index = ledger.classes().index
    assert index[1] == index[4] and index[2] == index[5] and index[1] != index[2]


def test_labels_expand_without_memory() -> None:
    labels = Labels.along((1, 3, 100, 100), 1, torch.tensor([4, 5, 6]))
    assert labels.expanded().untyped_storage().nbytes() == 24
    assert settle(labels.expanded(), Ledger(), "unused") is not labels
    assert Labels.along((2, 3), 1, torch.tensor([7, 7, 7])).dim is None
