"""`autoprune finetune`: training, saving, interruption and resumption, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from autoprune.config import StudyConfig, load_study
from autoprune.data import loading
from autoprune.data.splits import Splits
from autoprune.errors import ConfigError
from autoprune.finetuning import CHECKPOINT_FILE, with_training
from autoprune.plan import read_plan
from autoprune.session import Session
from autoprune.training import tuning
from tests.cli.test_commands import assert_refused

Invoke = Callable[..., Result]
Document = Callable[..., Any]
SHORT = (
    *("--epochs", "2", "--learning-rate", "0.05"),
    *("--images", "800", "--batch-size", "32", "--distillation", "0.1"),
)


@pytest.fixture(scope="module")
def pruned(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that `build` saved."""
    from typer.testing import CliRunner

    from autoprune.cli import app

    place = tmp_path_factory.mktemp("pruned") / "plan"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(app, ["build", "tiny.toml", "--macs", "0.9", "--out", str(place), "-q"])
    assert result.exit_code == 0, result.output
    return place


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def test_help_has_an_example(invoke: Invoke) -> None:
    result = invoke("finetune", "--help")
    shown = " ".join(result.stdout.split())
    assert result.exit_code == 0 and "Example: autoprune finetune" in shown
    assert all(option in shown for option in ("--plan", "--resume", "--json", "--quiet", "--device"))


def test_it_trains_saves_and_records(document: Document, pruned: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    found = document("finetune", "tiny.toml", "--plan", pruned, "--out", out, *SHORT)
    # The network of this study is not trained, so that it can only get better.
    assert found["accuracy"] > found["accuracy_before"] + 0.1
    assert found["images"] == 800 and found["settings"]["epochs"] == 2 == len(found["history"])
    assert document("evaluate", "tiny.toml", "--plan", out)["accuracy"] == found["accuracy"]
    before, after = read_plan(pruned), read_plan(out)
    assert before.fine_tuning == [] and "fine_tuning" not in (pruned / "plan.json").read_text()
    assert after.fine_tuning[0].accuracy == found["accuracy"]
    assert after.fine_tuning[0].settings["learning_rate"] == 0.05
    assert after.model_copy(update={"fine_tuning": [], "weights_sha256": before.weights_sha256}) == before
    assert sorted(path.name for path in out.iterdir()) == ["plan.json", "weights.safetensors"]


def test_a_tuned_network_can_be_tuned_again(invoke: Invoke, pruned: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    result = invoke("finetune", "tiny.toml", "--plan", pruned, "--out", once, *SHORT)
    assert result.exit_code == 0, result.output
    assert "before" in result.stdout and "epoch 2/2: loss" in result.stderr
    assert invoke("finetune", "tiny.toml", "--plan", once, "--out", twice, *SHORT, "-q").exit_code == 0
    first, second = read_plan(twice).fine_tuning
    assert second.accuracy_before == first.accuracy


@pytest.fixture
def interrupted(
    invoke: Invoke, pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder in which a training stopped after its first epoch."""
    out, write = tmp_path / "tuned", tuning.write_checkpoint

    def stop(path: Path, *args: Any) -> None:
        write(path, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "write_checkpoint", stop)
        result = invoke("finetune", "tiny.toml", "--plan", pruned, "--out", out, *SHORT)
    assert result.exit_code == 130 and "--resume continues" in result.stderr
    assert [path.name for path in out.iterdir()] == [CHECKPOINT_FILE]
    yield out


def test_ctrl_c_then_resume_gives_the_uninterrupted_network(
    document: Document, interrupted: Path, pruned: Path, tmp_path: Path
) -> None:
    found = document("finetune", "tiny.toml", "--plan", pruned, "--out", interrupted, *SHORT, "--resume")
    whole = document("finetune", "tiny.toml", "--plan", pruned, "--out", tmp_path / "whole", *SHORT)
    assert weights(interrupted) == weights(tmp_path / "whole")
    assert found["accuracy"] == whole["accuracy"] and len(found["history"]) == 2
    assert not (interrupted / CHECKPOINT_FILE).exists()


def test_a_checkpoint_is_neither_overwritten_nor_misread(
    invoke: Invoke, interrupted: Path, pruned: Path
) -> None:
    command = ("finetune", "tiny.toml", "--plan", pruned, "--out", interrupted)
    assert_refused(invoke(*command, *SHORT), "checkpoint", "--resume", "--force")
    assert_refused(invoke(*command, *SHORT, "--epochs", "3", "--resume", "-q"), "settings.epochs")
    assert (interrupted / CHECKPOINT_FILE).exists()
    assert invoke(*command, *SHORT, "--force", "-q").exit_code == 0


def test_bad_requests_are_refused_before_the_model_is_loaded(
    invoke: Invoke, pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> Session:
        raise AssertionError("long work began")

    monkeypatch.setattr(Session, "open", never)
    (tmp_path / "mine.txt").touch()
    command = ("finetune", "tiny.toml", "--plan", pruned)
    assert_refused(invoke(*command, "--out", tmp_path), "not empty", "--force")
    assert_refused(invoke(*command, "--out", tmp_path / "o", "--epochs", "0"), "training.epochs")
    assert_refused(invoke(*command, "--out", tmp_path / "o", "--distillation", "1.5"), "distillation")
    gone = ("finetune", "tiny.toml", "--plan", tmp_path / "gone", "--out", tmp_path / "o")
    assert_refused(invoke(*gone), "plan.json")


def test_a_study_without_training_images_is_refused(
    invoke: Invoke, document: Document, pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = loading.load_splits

    def without_train(config: Any) -> Splits:
        splits = read(config)
        return Splits(calibration=splits.calibration, validation=splits.validation, test=splits.test)

    monkeypatch.setattr("autoprune.session.load_splits", without_train)
    command = ("finetune", "tiny.toml", "--plan", pruned, "--out", tmp_path / "o", "--epochs", "1")
    assert_refused(invoke(*command, "-q"), "training split", "distillation = 1")
    found = document(*command, "--distillation", "1.0")
    assert found["images"] == 32, "calibration images need no labels"


def test_too_many_images_are_refused(invoke: Invoke, pruned: Path, tmp_path: Path) -> None:
    command = ("finetune", "tiny.toml", "--plan", pruned, "--out", tmp_path / "o", "--images", "99999")
    assert_refused(invoke(*command, "-q"), "99999", "1078")


def study(folder: Path) -> StudyConfig:
    return load_study(folder / "tiny.toml")


def test_overrides_are_checked_like_the_file(folder: Path) -> None:
    changed = with_training(study(folder), {"epochs": 3, "images": None, "temperature": (8.0, 1.0)})
    assert changed.training.epochs == 3 and changed.training.images is None
    assert changed.training.temperature == (8.0, 1.0)
    assert changed.model_copy(update={"training": study(folder).training}) == study(folder)
    with pytest.raises(ConfigError, match="learning_rate"):
        with_training(study(folder), {"learning_rate": 0.0})


def test_the_seed_is_the_trainings_own(document: Document, pruned: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in "abc"]
    for out, seed in zip(outs, (4, 4, 5), strict=True):
        document("finetune", "tiny.toml", "--plan", pruned, "--out", out, *SHORT, "--seed", seed)
    assert weights(outs[0]) == weights(outs[1]) != weights(outs[2])
    assert read_plan(outs[0]).fine_tuning[0].seed == 4
    assert json.loads((outs[0] / "plan.json").read_text())["schema_version"] == 1
