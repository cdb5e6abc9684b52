from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from autoprune.config import (
    BudgetConfig,
    SearchConfig,
    StudyConfig,
    TrainingConfig,
    differences,
    load_study,
    mask_url,
)
from autoprune.errors import ConfigError

STUDIES = Path(__file__).parent.parent / "studies"
MINIMAL = """
name = "s"
storage = "s.journal"
[model]
factory = "autoprune.models:lenet5"
[data]
dataset = "digits"
"""


def study(tmp_path: Path, text: str) -> StudyConfig:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return load_study(path)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_studies_load(path: Path) -> None:
    assert load_study(path).name == path.stem


def test_left_out_sections_have_the_documented_defaults(tmp_path: Path) -> None:
    config = study(tmp_path, MINIMAL)
    search = config.search
    assert (search.trials, search.min_kept, search.batch_removal) == (100, 0.05, (1, 2, 4))
    assert (config.reconstruction.method, config.reconstruction.damping) == ("sequential", 1e-3)
    assert search.budget.bounds == {}


def test_configuration_survives_json(tmp_path: Path) -> None:
    search = 'mean = [0.5]\n[search]\nignore = ["fc*"]\nbudget = { macs = 0.5, bytes = 9 }'
    config = study(tmp_path, MINIMAL + search)
    stored = json.loads(json.dumps(config.model_dump(mode="json")))
    assert StudyConfig.model_validate(stored) == config
    assert differences(stored, config.model_dump()) == []


def test_configuration_is_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        study(tmp_path, MINIMAL).search.trials = 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = \nstorage = 3", "not valid TOML.*line 1"),
        (MINIMAL + "[search]\ntrails = 3", r"key in \[search\] 'trails'; did you mean 'trials'"),
        (MINIMAL + "[search.budget]\nmac = 3", r"key in \[search.budget\] 'mac'; did you mean 'macs'"),
        (MINIMAL + "[serach]\n", "key in the top level 'serach'; did you mean 'search'"),
        (MINIMAL.replace("factory", "factry"), r"\[model\] needs 'factory'"),
        (MINIMAL.replace('"s"', '" "'), "name: "),
        (MINIMAL.replace('"digits"', "3"), "data.dataset: .*string, got 3"),
        (MINIMAL + "batch_size = 0", "data.batch_size: .*got 0"),
        (MINIMAL + "calibration_images = 0", "data.calibration_images: .*got 0"),
        (MINIMAL + "validation_images = 0", "data.validation_images: .*got 0"),
        (MINIMAL + "std = [0.0]", "data.std.0: .*greater than 0"),
        (MINIMAL + "mean = [nan]", "data.mean.0: .*finite"),
        (MINIMAL + "[search]\ntrials = 0", "search.trials: .*greater than or equal to 1, got 0"),
        (MINIMAL + '[search]\ntrials = "3"', "search.trials: .*integer, got '3'"),
        (MINIMAL + "[search]\ntrials = true", "search.trials: .*integer, got True"),
        (MINIMAL + "[search]\nmultiple_of = 0", "search.multiple_of"),
        (MINIMAL + "[search]\nmin_kept = 0.0", "search.min_kept"),
        (MINIMAL + "[search]\nmin_kept = 1.5", "search.min_kept"),
        (MINIMAL + "[search]\nseed = -1", "search.seed"),
        (MINIMAL + "[search]\nbatch_removal = []", "search.batch_removal: "),
        (MINIMAL + "[search]\nbatch_removal = [1, 0]", "search.batch_removal.1: .*got 0"),
        (MINIMAL + "[reconstruction]\ndamping = -1.0", "reconstruction.damping"),
        (MINIMAL.replace("[data]", 'train_on_first_use = "a:b"\n[data]'), "model: train.* needs 'weights'"),
    ],
)
def test_bad_study_is_one_line_that_names_the_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        study(tmp_path, text)
    assert "\n" not in str(caught.value) and "study.toml" in str(caught.value)


@pytest.mark.parametrize("value", ["0.0", "1.5", "-3", "1", "true", '"half"', "nan", "20e6"])
def test_budget_is_a_fraction_or_an_absolute_integer(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"search\.budget\.macs: should be a fraction"):
        study(tmp_path, MINIMAL + f"[search]\nbudget = {{ macs = {value} }}")


def test_budget_bounds_keep_their_type() -> None:
    bounds = BudgetConfig(macs=1.0, params=2).bounds
    assert bounds == {"macs": 1.0, "params": 2}
    assert [type(value) for value in bounds.values()] == [float, int]


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search\.trials.*search\.seed"):
        study(tmp_path, MINIMAL + "[search]\ntrials = 0\nseed = -1")


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_unreadable_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="study file"):
        load_study(tmp_path / name)


def test_differences_name_field_and_both_values() -> None:
    stored = SearchConfig().model_dump(mode="json")
    current = SearchConfig(seed=3, trials=5).model_dump()
    found = differences({"search": stored}, {"search": current})
    assert found == ["search.trials: stored 100, now 5", "search.seed: stored 0, now 3"]
    assert differences({"search": stored}, {"search": current}, ["search.seed"]) == found[1:]
    assert differences({"search": stored}, {"search": current}, ["search"]) == found
    assert differences({"search": stored}, {"search": current}, ["data", "sea"]) == []
    assert differences({}, {"a": {"b": 1}}) == ["a.b: stored absent, now 1"]


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://ada:se:c@ret@host/db", "postgresql://ada:***@host/db"),
        ("redis://:secret@host:6379", "redis://:***@host:6379"),
        ("postgresql://host/db?user=a&password=secret&x=1", "postgresql://host/db?user=a&password=***&x=1"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("studies/a.journal", "studies/a.journal"),
    ],
)
def test_passwords_are_masked(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_passwords_do_not_show_in_errors(tmp_path: Path) -> None:
    text = MINIMAL.replace('"s.journal"', '["postgresql://ada:secret@host"]')
    with pytest.raises(ConfigError) as caught:
        study(tmp_path, text)
    assert "secret" not in str(caught.value) + str(caught.value.__cause__)
    assert differences({"storage": "p://a:secret@h"}, {"storage": "p://a:hidden@h"}) == [
        "storage: stored 'p://a:***@h', now 'p://a:***@h'"
    ]


def training(tmp_path: Path, text: str) -> TrainingConfig:
    return study(tmp_path, f"{MINIMAL}[training]\n{text}\n").training


@pytest.mark.parametrize(
    ("text", "temperature"),
    [("temperature = 3", 3.0), ("temperature = 2.5", 2.5), ("temperature = [8, 1.0]", (8.0, 1.0))],
)
def test_a_temperature_is_a_number_or_a_pair(tmp_path: Path, text: str, temperature: object) -> None:
    config = training(tmp_path, text)
    assert config.temperature == temperature
    assert TrainingConfig.model_validate(config.model_dump()) == config
    assert TrainingConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("temperature = 0", r"training.temperature: should be a number above 0, or a pair .* got 0"),
        ("temperature = [8.0]", "pair"),
        ("temperature = [8.0, 1.0, 2.0]", "pair"),
        ("temperature = [8.0, -1.0]", "pair"),
        ("temperature = '4'", "pair"),
        ("temperature = true", "pair"),
        ("epochs = 0", "training.epochs"),
        ("distillation = 1.5", "training.distillation"),
        ("optimizer = 'lion'", "'sgd' or 'adam'"),
        ("milestones = [0.3]", 'schedule = "step"'),
        ("gamma = 0.5", 'schedule = "step"'),
        ("schedule = 'step'\nmilestones = [0.7, 0.3]", "rise"),
        ("schedule = 'step'\nmilestones = [30]", "training.milestones.0"),
        ("optimizer = 'adam'\nnesterov = true", 'nesterov needs optimizer = "sgd"'),
        ("nesterov = true\nmomentum = 0.0", "nesterov"),
        ("epochs = 3\nwarmup_epochs = 3.0", r"less than epochs \(3\)"),
        ("distillation = 1.0\nlabel_smoothing = 0.1", "label_smoothing needs labels"),
        ("distillation = 0.0\ntemperature = 2.0", "temperature is that of the teacher"),
        ("epoch = 3", "did you mean 'epochs'"),
    ],
)
def test_training_options_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        training(tmp_path, text)
