from __future__ import annotations

from pathlib import Path

import pytest
from optuna import Study

from autoprune.searching.study import stored_study
from tests.searching.conftest import engine_for

pytest.importorskip("optuna_dashboard", reason="the extra 'dashboard' is not installed")


@pytest.fixture(scope="session")
def journal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A storage with a study that has been searched within a budget."""
    path = str(tmp_path_factory.mktemp("dashboard") / "s.journal")
    engine_for("chain", path, trials=4, budget={"macs": 0.8}).search()
    return path


@pytest.fixture
def study(journal: str, tmp_path: Path) -> Study:
    """A study of its own for every test."""
    (tmp_path / "s.journal").write_bytes(Path(journal).read_bytes())
    return stored_study(str(tmp_path / "s.journal"), "study")
