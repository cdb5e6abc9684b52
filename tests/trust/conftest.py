from __future__ import annotations

from pathlib import Path

import pytest

from tests.searching.conftest import engine_for


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """A file that exists once code of a trap has run."""
    return tmp_path / "sprung"


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with a study of four finished trials."""
    path = tmp_path_factory.mktemp("trust") / "s.journal"
    engine_for("chain", str(path), trials=4).search()
    return path
