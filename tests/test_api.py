"""`autoprune.search` as a user calls it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import autoprune
from autoprune.errors import AutopruneError, BudgetError, ConfigError, DataError, ModelError, StudyError
from autoprune.graph import count_macs
from autoprune.searching.attributes import IDENTITY, INPUTS, LABELS
from autoprune.searching.engine import Engine
from autoprune.searching.metrics import Accuracy
from autoprune.storing.storages import open_storage
from tests.small import NETWORKS, Residual, relative_error

SMALL = NETWORKS["residual"]
IMAGES = SMALL.images(32)
UNSEEN = SMALL.images(48, seed=8)


def labelled() -> list[tuple[Tensor, Tensor]]:
    with torch.no_grad():
        labels = SMALL.model()(UNSEEN).argmax(1)
    return list(zip(UNSEEN.chunk(3), labels.chunk(3), strict=True))


def quality(network: nn.Module) -> float:
    return -float((network(UNSEEN) - SMALL.model()(UNSEEN)).detach().square().mean())


class Pair(nn.Module):
    """Two inputs by keyword or position; the second is added to the first's features."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(torch.relu(self.left(a) + self.right(b)))}


def search(model: nn.Module | None = None, **changes: Any) -> autoprune.Front:
    options: dict[str, Any] = {"calibration": IMAGES, "evaluate": quality, "trials": 3, **changes}
    return autoprune.search(SMALL.model() if model is None else model, **options)


def test_a_front_from_a_tensor_and_a_loader() -> None:
    model = SMALL.model().train()
    before = copy.deepcopy(model.state_dict())
    front = autoprune.search(model, calibration=IMAGES, validation=labelled(), trials=20)
    assert len(front.trials) == 20 and front.dense.accuracy == 1.0
    point = front.best(macs=0.5)
    assert point.macs <= front.dense.macs / 2
    small = point.build()
    assert type(small) is Residual and not small.training and model.training
    assert all(tensor.equal(model.state_dict()[name]) for name, tensor in before.items())
    assert all(module.training for module in model.modules())
    assert count_macs(small, (IMAGES[:1],)) == point.macs
    hits = sum(int((small(x).argmax(1) == y).sum()) for x, y in labelled())
    assert hits / 48 == point.accuracy
    json.dumps(front.to_json(), allow_nan=False)
    small.train()(IMAGES).sum().backward()


def test_candidates_are_trained_and_kept(tmp_path: Path) -> None:
    model, storage = SMALL.model(), str(tmp_path / "s.journal")
    training = TensorDataset(UNSEEN, SMALL.model()(UNSEEN).argmax(1))
    how: dict[str, Any] = {
        "recovery": "fine-tune", "training": training, "storage": storage, "artifacts": tmp_path / "kept",
        "training_options": {
            "epochs": 30, "augmentation": "none", "optimizer": "adam", "learning_rate": 3e-3,
            "distillation": 1.0,
        },
        "min_kept": 0.4,
    }  # fmt: skip
    front = search(model, trials=1, **how)
    again = search(model, trials=2, **how)
    assert again.trials[0].to_json() == front.trials[0].to_json()
    assert [quality(point.build()) for point in again.trials] == [p.accuracy for p in again.trials]
    assert len(list((tmp_path / "kept").iterdir())) == 6, "two trials of two, two of the study"
    plain = search(trials=1, min_kept=0.4)
    assert front.trials[0].widths == plain.trials[0].widths
    assert front.trials[0].accuracy > plain.trials[0].accuracy
    with pytest.raises(ConfigError, match="training must be a dataset"):
        search(**{**how, "training": DataLoader(training)})
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        search(**{**how, "training_options": {"epochs": 0}})


class Stream:
    """A loader that is only an iterable, and yields labels too."""

    def __iter__(self) -> Iterator[Any]:
        return iter([(part, torch.zeros(len(part), dtype=torch.int64)) for part in IMAGES.chunk(4)])


def test_every_way_to_give_calibration_images_is_the_same() -> None:
    labels = torch.zeros(len(IMAGES), dtype=torch.int64)
    loader = DataLoader(TensorDataset(IMAGES, labels), batch_size=7)
    ways: list[Any] = [IMAGES, [IMAGES], list(IMAGES.chunk(3)), loader, Stream(), iter(IMAGES.chunk(2))]
    fronts = [search(calibration=way).trials for way in ways]
    for front in fronts:
        assert [point.widths for point in front] == [point.widths for point in fronts[0]]
        # Rounding depends on where an image lies in memory.
        accuracies = [point.accuracy for point in fronts[0]]
        assert [point.accuracy for point in front] == pytest.approx(accuracies, rel=1e-3)


@pytest.mark.parametrize("keywords", [False, True])
def test_inputs_may_be_tuples_or_dicts(keywords: bool) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(40, 6), torch.randn(40, 4)
    model = Pair()
    calibration: Any = {"a": a, "b": b} if keywords else [(a[:20], b[:20]), (a[20:], b[20:])]

    def evaluate(network: nn.Module) -> float:
        return -float((network(a, b)["logits"] - model(a, b)["logits"]).detach().square().mean())

    front = autoprune.search(model, calibration=calibration, evaluate=evaluate, trials=4)
    assert front.dense.accuracy == 0 and all(type(point.build()) is Pair for point in front)
    assert all(point.accuracy == evaluate(point.build()) for point in front.trials)


def test_float64_stays_float64() -> None:
    front = search(
        SMALL.model(dtype=torch.float64), calibration=IMAGES.double(), evaluate=lambda network: 1.0
    )
    assert front.points[0].build()(IMAGES.double()).dtype == torch.float64


def test_a_stored_search_continues(tmp_path: Path) -> None:
    storage = str(tmp_path / "s.journal")
    first = search(storage=storage, trials=2)
    more = search(storage=storage, trials=4)
    assert [p.to_json() for p in more.trials[:2]] == [p.to_json() for p in first.trials]
    assert len(more.trials) == 4 and len(search(storage=storage, trials=1).trials) == 4
    with pytest.raises(StudyError, match=r"model: stored"):
        search(SMALL.model(seed=1), storage=storage)
    with pytest.raises(StudyError, match=r"inputs: stored"):
        search(calibration=IMAGES + 1, storage=storage)
    assert len(search(storage=storage, calibration=IMAGES + 1, name="other", trials=1).trials) == 1


def test_a_study_is_not_continued_on_other_labels(tmp_path: Path) -> None:
    options: dict[str, Any] = {"evaluate": None, "storage": str(tmp_path / "s.journal")}
    first = search(validation=labelled(), trials=2, **options)
    narrow = [(x, y.to(torch.int32)) for x, y in labelled()]
    rebatched = [(torch.cat([x for x, _ in narrow]), torch.cat([y for _, y in narrow]))]
    assert len(search(validation=rebatched, trials=3, **options).trials) == 3
    with pytest.raises(StudyError, match=r"labels: stored"):
        search(validation=[(x, (y + 1) % 5) for x, y in labelled()], trials=4, **options)
    assert first.dense.accuracy == 1.0


def test_a_study_of_the_time_before_labels_were_known_continues(tmp_path: Path) -> None:
    storage_path = tmp_path / "s.journal"
    storage = open_storage(str(storage_path))
    options: dict[str, Any] = {"evaluate": None, "validation": labelled(), "storage": str(storage_path)}
    search(trials=1, **options)
    study = optuna.load_study(storage=storage, study_name="autoprune")
    known = study.user_attrs[IDENTITY]
    before = {name: value for name, value in known.items() if name not in (INPUTS, LABELS)}
    study.set_user_attr(IDENTITY, before)
    assert len(before) == len(known) - 2 and len(search(trials=2, **options).trials) == 2
    with pytest.raises(StudyError, match=r"data: stored"):
        search(trials=3, **{**options, "calibration": IMAGES + 1})


def test_a_function_that_judges_otherwise_than_before_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = str(tmp_path / "s.journal")
    search(storage=storage, trials=1)
    search(storage=storage, trials=2)
    assert "autoprune" not in caplog.text
    search(storage=storage, evaluate=lambda network: 100.0, trials=3)
    assert "gives 100 now" in caplog.text and "cannot be compared" in caplog.text


def not_finite_weight() -> nn.Module:
    model = SMALL.model()
    with torch.no_grad():
        model.get_parameter("head.weight")[0, 0] = math.inf
    return model


def nothing_to_prune() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 5))


class Untraceable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else x


BAD: list[tuple[str, dict[str, Any], type[AutopruneError], str]] = [
    ("no metric", {"evaluate": None}, ConfigError, "pass one of validation"),
    ("two metrics", {"validation": labelled}, ConfigError, "pass one of validation"),
    ("metric no function", {"evaluate": 0.5}, ConfigError, "evaluate must be a function"),
    ("empty calibration", {"calibration": []}, DataError, "at least one image"),
    ("empty tensor", {"calibration": IMAGES[:0]}, DataError, "at least one image"),
    ("calibration no tensor", {"calibration": 7}, DataError, "calibration data"),
    ("batches no tensors", {"calibration": ["a", "b"]}, DataError, "batch must be"),
    ("NaN inputs", {"calibration": IMAGES * math.nan}, DataError, "finite"),
    ("infinite inputs", {"calibration": IMAGES / 0}, DataError, "finite"),
    ("empty validation", {"evaluate": None, "validation": []}, DataError, "empty loader"),
    ("unlabelled validation", {"evaluate": None, "validation": [UNSEEN]}, DataError, "pairs"),
    ("NaN weights", {"model": not_finite_weight}, ModelError, "head.weight"),
    ("no weights", {"model": lambda: SMALL.model().to("meta")}, ModelError, "on the meta device"),
    ("no module", {"model": lambda: "resnet18"}, ModelError, "nn.Module, got str"),
    ("no group", {"model": nothing_to_prune}, ModelError, "prunable"),
    ("no trace", {"model": Untraceable}, ModelError, "trace"),
    ("inputs that do not fit", {"calibration": torch.randn(4, 7)}, ModelError, "trace"),
    ("unknown criterion", {"criterion": "L2 norm"}, ConfigError, "unknown criterion 'L2 norm'. Known: .*l1"),
    ("unknown strategy", {"strategy": "knapsak"}, ConfigError, "did you mean 'knapsack'"),
    ("unknown reconstruction", {"reconstruction": "parallel"}, ConfigError, "sequential"),
    ("unknown budget", {"budget": {"flops": 0.5}}, ConfigError, "flops"),
    ("budget below the floors", {"budget": {"macs": 1e-5}}, BudgetError, "the least is"),
    ("negative budget", {"budget": {"macs": -0.5}}, ConfigError, "budget.macs"),
    ("no trials", {"trials": 0}, ConfigError, "trials"),
    ("multiple of nothing", {"multiple_of": 0}, ConfigError, "multiple_of"),
    ("floor above dense", {"min_kept": 1.5}, ConfigError, "min_kept"),
    ("no batch removal size", {"batch_removal": []}, ConfigError, "batch_removal"),
    ("batch removal of nothing", {"batch_removal": [0]}, ConfigError, "batch_removal"),
    ("negative damping", {"damping": -1.0}, ConfigError, "damping"),
    ("negative seed", {"seed": -1}, ConfigError, "seed"),
    ("unknown device", {"device": "abacus"}, ConfigError, "abacus"),
    (
        "metric that is NaN",
        {"evaluate": lambda network: math.nan},
        DataError,
        "metric must be a finite number",
    ),
]


@pytest.mark.parametrize(("changes", "error", "message"), [pytest.param(*bad[1:], id=bad[0]) for bad in BAD])
def test_bad_input_is_one_line_before_long_work(
    changes: dict[str, Any],
    error: type[AutopruneError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def never(engine: Engine) -> None:
        raise AssertionError("long work began")

    monkeypatch.setattr(Engine, "bench", property(never))
    changes = dict(changes)
    make: Callable[[], Any] = changes.pop("model", SMALL.model)
    if callable(changes.get("validation")):
        changes["validation"] = changes["validation"]()
    with pytest.raises(error, match=message) as caught:
        search(make(), **changes)
    assert "\n" not in str(caught.value) and capfd.readouterr() == ("", "")


def test_an_unwritable_storage_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="cannot be"):
        search(storage=str(tmp_path / "file" / "s.journal"), calibration=None)


def spoil(network: nn.Module) -> None:
    for tensor in network.state_dict().values():
        tensor.zero_()


@pytest.mark.parametrize("careless", [nn.Module.train, nn.Module.half, nn.Module.double, spoil])
def test_what_a_function_does_to_a_network_reaches_no_other(careless: Callable[[nn.Module], object]) -> None:
    def judge(network: nn.Module) -> float:
        assert not network.training and not torch.is_grad_enabled()
        found = quality(network)
        careless(network)
        return found

    plain, found = search(), search(evaluate=judge)
    assert [point.accuracy for point in found.trials] == [point.accuracy for point in plain.trials]
    assert [point.output_error for point in found.trials] == [point.output_error for point in plain.trials]
    assert not found.best(macs=0.9).build().training


@pytest.mark.parametrize("answer", [None, "high", torch.ones(3)])
def test_an_evaluation_that_gives_no_number_is_an_error(answer: object) -> None:
    with pytest.raises(DataError, match="must be one number"):
        search(evaluate=lambda network: answer)


@pytest.mark.parametrize(("labels", "said"), [([5, 0], "below 5"), ([0, -1], "from 0 on")])
def test_labels_that_are_no_classes_are_an_error(labels: list[int], said: str) -> None:
    batches = [(UNSEEN[:2], torch.tensor(labels))]
    with pytest.raises(DataError, match=said):
        search(evaluate=None, validation=batches)


def test_validation_images_that_the_network_cannot_read_are_an_error() -> None:
    with pytest.raises(DataError, match="must run on the validation inputs"):
        search(evaluate=None, validation=[(UNSEEN[:, :2], torch.zeros(len(UNSEEN), dtype=torch.long))])


def test_targets_that_no_candidate_reaches_are_an_error() -> None:
    with pytest.raises(ConfigError, match="targets of strategy 'knapsack' must be reachable"):
        search(strategy_options={"targets": [0.001, 0.5]}, min_kept=0.2)
    with pytest.raises(ConfigError, match=r"40\.\d% may, got 60\.0%, 80\.0%"):
        search(strategy_options={"targets": [0.3, 0.6, 0.8]}, budget={"macs": 0.401})


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_classes_may_be_of_any_whole_type(kind: torch.dtype) -> None:
    validation = [(x, y.to(kind)) for x, y in labelled()]
    front = search(evaluate=None, validation=validation, trials=2)
    plain = search(evaluate=None, validation=labelled(), trials=2)
    assert [p.to_json() for p in front.trials] == [p.to_json() for p in plain.trials]


def test_truth_values_are_classes() -> None:
    validation = [(x, y > 1) for x, y in labelled()]
    assert len(search(evaluate=None, validation=validation, trials=2).trials) == 2


def test_a_sample_of_few_images_that_no_metric_can_judge_ends_no_search() -> None:
    """Its targets are all the same, though not those of all images."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    images, targets = torch.randn(500, 4), torch.zeros(500)
    targets[250] = 1.0
    front = search(model, calibration=images[:64], evaluate=None, validation=[(images, targets)], metric="r2")
    assert len(front.trials) == 3


def test_images_that_come_class_by_class_are_mixed() -> None:
    """Some steps read the first ones alone; the caller's order must not choose them."""
    order = torch.cat([labels for _, labels in labelled()]).argsort(stable=True)
    images, labels = UNSEEN[order], torch.cat([labels for _, labels in labelled()])[order]
    front = search(evaluate=None, validation=[(images, labels)], calibration=UNSEEN[order], trials=1)
    task = front.trials[0].builder.__self__.task  # type: ignore[union-attr]
    common, first = labels.mode().values, torch.cat([part for _, part in task.metric.batches])[:24]
    share, given, mixed = (float((part == common).double().mean()) for part in (labels, labels[:24], first))
    assert mixed == pytest.approx(share, abs=0.05) and abs(given - share) > 0.05
    calibrated = torch.cat([chunk.args[0] for chunk in task.chunks])
    assert not torch.equal(calibrated, UNSEEN[order])
    torch.testing.assert_close(calibrated.sum(0), UNSEEN.sum(0))


def test_a_small_space_is_measured_whole_and_the_search_then_ends() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 5)).eval()
    front = search(
        model, calibration=torch.randn(32, 6), evaluate=lambda net: 1.0, batch_removal=[1], trials=50
    )
    assert len(front.trials) == len({tuple(point.widths.values()) for point in front.trials}) == 12


def test_a_search_and_a_joint_fit_within_inference_mode() -> None:
    model = SMALL.model()
    plain = search(model).trials[1].build()
    with torch.inference_mode():
        point = search(model).trials[1]
        built, joint = point.build(), search(model, reconstruction="joint").trials[1].build()
    assert relative_error(built, plain, UNSEEN) < 1e-9
    joint.train()(IMAGES).sum().backward()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"timeout": "10"}, "timeout must be a number of seconds"),
        ({"evaluate": None, "validation": 5}, "validation must be a loader or list"),
    ],
)
def test_values_of_another_kind_are_errors_in_words(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AutopruneError, match=said):
        search(**changes)


def test_a_storage_may_be_a_path_and_a_metric_may_evaluate(tmp_path: Path) -> None:
    """A metric of ours in place of a function is judged, and told from others, as a validation loader is."""
    metric = Accuracy(labelled(), torch.device("cpu"))
    search(evaluate=metric, storage=tmp_path / "s.journal", trials=1)
    front = search(evaluate=None, validation=labelled(), storage=tmp_path / "s.journal", trials=2)
    assert len(front.trials) == 2 and LABELS in identity_of(tmp_path / "s.journal")


def identity_of(storage: Path) -> dict[str, Any]:
    study = optuna.load_study(storage=open_storage(str(storage)), study_name="autoprune")
    found: dict[str, Any] = study.user_attrs[IDENTITY]
    return found


def test_gradients_are_those_of_the_training_images_where_there_are_any() -> None:
    """Small integers for labels, as image datasets give them."""
    training = TensorDataset(SMALL.images(64, seed=5), torch.arange(64).to(torch.uint8) % 5)
    options: dict[str, Any] = {"evaluate": None, "validation": labelled(), "strategy": "rate-derivation"}
    options["batch_removal"] = [1]
    losses = []
    for given in (None, training):
        front = search(trials=1, training=given, **options)
        engine = front.trials[0].builder.__self__  # type: ignore[union-attr]
        losses.append(engine.workshop.gradients(None, "train", 64).loss)
    images, labels = training.tensors
    wanted = nn.functional.cross_entropy(SMALL.model()(images), labels.long())
    assert losses[1] == pytest.approx(float(wanted.detach()), rel=1e-4) and losses[0] < losses[1]


def test_a_seed_that_no_generator_takes_is_an_error() -> None:
    with pytest.raises(ConfigError, match="seed"):
        search(seed=2**40)


def test_mixed_precision_around_a_search_does_not_reach_it() -> None:
    model = SMALL.model()
    plain = search(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = search(model, evaluate=lambda network: 1.0)
        built = found.trials[2].build()
    assert [point.output_error for point in found.trials] == [point.output_error for point in plain.trials]
    assert relative_error(built, plain.trials[2].build(), UNSEEN) < 1e-6


class Noting(Residual):
    """Keeps a feature map and a list of them on itself, as for a visualisation."""

    features: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.features = self.stem(x)
        self.seen = [*self.seen[-1:], self.features]
        return super().forward(x)


def test_a_forward_may_keep_feature_maps_on_its_module() -> None:
    torch.manual_seed(0)
    model = Noting().eval()
    front = search(model)
    assert model.features is None and model.seen == []
    assert front.best(macs=0.9).build()(UNSEEN).isfinite().all()


def test_mirrors_for_small_models_of_cached_activations_are_an_error() -> None:
    with pytest.raises(ConfigError, match="scope"):
        search(reconstruction="casm", reconstruction_options={"mirror": True})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": None}, "name must be"),
        ({"budget": 0.5}, "budget must be a dict"),
        ({"caps": [1]}, "caps must be a dict"),
        ({"training_options": 3}, "training_options must be a dict"),
        ({"storage": 3}, "storage must be a path"),
        ({"name": " "}, "name must be"),
        ({"history": 3}, "history must be"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"progress": 3}, "progress must be"),
        ({"calibration": IMAGES.double()}, "float64"),
        ({"evaluate": None, "validation": quality}, "goes to evaluate"),
        ({"min_kept": 1.0}, "nothing can go"),
    ],
)
def test_wrong_arguments_are_said_in_words(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(AutopruneError, match=said):
        search(**wrong)


def test_one_image_cannot_judge() -> None:
    with pytest.raises(DataError, match="at least two images must judge"):
        autoprune.search(SMALL.model(), calibration=IMAGES, validation=[(UNSEEN[:1], torch.zeros(1).long())])


def test_validation_of_another_type_is_named() -> None:
    labels = torch.zeros(48, dtype=torch.int64)
    with pytest.raises(DataError, match=r"inputs are float64.*torch.float32"):
        autoprune.search(SMALL.model(), calibration=IMAGES, validation=[(UNSEEN.double(), labels)])


def test_inputs_of_one_number_each() -> None:
    column = torch.linspace(-1, 1, 64)[None].T
    model = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))
    front = autoprune.search(
        model, calibration=column, validation=[(column, column**2)], metric="r2", trials=2
    )
    assert len(front.trials) == 2


class Remembering(nn.Module):
    """Keeps what it computed, as networks whose features others read do."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.features = SMALL.model(), None

    def forward(self, x: Tensor) -> Tensor:
        self.features = self.body(x)
        return self.features


def test_a_trained_network_that_keeps_what_it_computed_is_judged() -> None:
    training = TensorDataset(IMAGES, SMALL.model()(IMAGES).argmax(1))
    how = {"recovery": "fine-tune", "training": training, "training_options": {"epochs": 1}}
    front = search(
        model=Remembering(), evaluate=lambda network: -float(network(UNSEEN).var()), trials=1, **how
    )
    assert len(front.trials) == 1


def test_numbers_of_numpy_are_numbers() -> None:
    given = {"budget": {"macs": np.float32(0.75)}, "batch_removal": np.array([1, 2])}
    plain = {"budget": {"macs": 0.75}, "batch_removal": (1, 2)}
    assert [p.widths for p in search(**given).trials] == [p.widths for p in search(**plain).trials]


def test_how_to_train_is_not_said_where_nothing_trains() -> None:
    with pytest.raises(ConfigError, match="training_options say how to train"):
        search(training_options={"epochs": 3})
