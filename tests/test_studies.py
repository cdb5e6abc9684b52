"""Every study file in the repository is valid, and its methods accept their options."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.config import load_study
from autoprune.session import options_of

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "studies").rglob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_study_file_is_valid(path: Path) -> None:
    config = load_study(path)
    options_of(config).check_names()
    assert config.name == path.stem
    assert config.storage == f"{path.relative_to(ROOT).with_suffix('.journal').as_posix()}"


def test_every_method_of_the_papers_has_a_study() -> None:
    names = {path.stem for path in FILES}
    methods = ("casm", "sfp", "lrf", "fp-omp", "fp-backward", "fp-omp-search", "hbfp", "rate-derivation")
    for method in methods:
        assert {f"{method}-cifar10-resnet20", f"{method}-cifar10-resnet56"} <= names
    assert "hbfp-lenet5-mnist" in names
