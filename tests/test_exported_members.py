from __future__ import annotations

import importlib

import pytest

import autoprune

EXPORTED = {
    "autoprune": [
        "AutopruneError",
        "BudgetError",
        "ConfigError",
        "DataError",
        "Dense",
        "Front",
        "ModelError",
        "PlanError",
        "Point",
        "StudyError",
        "load",
        "search",
    ],
    "autoprune.criteria": [
        "LRF",
        "OMP",
        "Criterion",
        "FPBackward",
        "GroupView",
        "History",
        "L1Norm",
        "L2Norm",
        "Random",
        "Reader",
        "SecondMoment",
        "Similarity",
        "criteria",
        "greedy_order",
        "group_view",
        "kernel_dispersion",
        "loss_curve",
        "readers",
    ],
    "autoprune.exporting": ["FORMATS", "Exported", "check_export", "export"],
    "autoprune.reconstruction": [
        "Bench",
        "Casm",
        "Filters",
        "Independent",
        "Joint",
        "NoReconstruction",
        "Reconstruction",
        "Sequential",
        "Solution",
        "re_estimate",
        "reconstructions",
        "refit",
        "restore",
    ],
    "autoprune.searching.strategies": [
        "GP",
        "NSGA2",
        "TPE",
        "Dispersion",
        "FPOMPSearch",
        "HistoryStrategy",
        "Knapsack",
        "KnapsackSampler",
        "Problem",
        "RandomRates",
        "RateDerivation",
        "Strategy",
        "Uniform",
        "Workshop",
        "strategies",
    ],
}


@pytest.mark.parametrize("package", EXPORTED)
def test_what_users_may_import(package: str) -> None:
    module = importlib.import_module(package)
    assert list(module.__all__) == EXPORTED[package]
    assert all(hasattr(module, name) for name in module.__all__)


def test_the_search_is_a_function_and_stays_one() -> None:
    importlib.import_module("autoprune.searching.engine")
    assert callable(autoprune.search) and autoprune.search.__module__ == "autoprune.api"
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = autoprune.serach  # type: ignore[attr-defined]
