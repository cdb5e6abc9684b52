from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.config import load_study
from autoprune.errors import ConfigError
from autoprune.paths import check_file, expanded


def test_home_is_found_in_paths_and_not_in_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/mine")
    assert expanded("~/study.journal") == expanded(Path("~/study.journal")) == "/home/of/mine/study.journal"
    assert expanded("a/b.journal") == "a/b.journal" and expanded("s3://bucket/~/x") == "s3://bucket/~/x"


def test_every_place_in_a_study_file_may_be_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/mine")
    text = """
name = "s"
storage = "~/s.journal"
artifacts = "~/kept"
[model]
factory = "a:b"
weights = "~/w.pth"
history = "~/h.safetensors"
[data]
dataset = "imagefolder"
root = "~/data"
train_root = "~/train"
validation_root = "~/val"
"""
    # With the mark that some editors put before UTF-8.
    (tmp_path / "s.toml").write_text("\ufeff" + text, encoding="utf-8")
    config = load_study(tmp_path / "s.toml")
    places = (config.storage, config.artifacts, config.model.weights, config.model.history)
    roots = (config.data.root, config.data.train_root, config.data.validation_root)
    assert all(str(place).startswith("/home/of/mine/") for place in (*places, *roots))


def test_a_file_that_cannot_be_written_is_known_beforehand(tmp_path: Path) -> None:
    check_file(tmp_path / "new.html", "report", "-o")
    (tmp_path / "old.html").write_text("x")
    check_file(tmp_path / "old.html", "report", "-o")
    for wrong in (tmp_path, tmp_path / "no" / "x.html", tmp_path / "old.html" / "x.html"):
        with pytest.raises(ConfigError, match=r"report '.*' cannot be written.*choose another -o"):
            check_file(wrong, "report", "-o")
