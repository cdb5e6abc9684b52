from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from autoprune.config import DataConfig, ModelConfig
from autoprune.data import load_splits, loader
from autoprune.errors import ModelError
from autoprune.models import digits_resnet, fingerprint, lenet5, load_model, load_weights, save_weights

DATA = Path(__file__).parents[2] / "data"
LENET = "autoprune.models:lenet5"
CALLS: list[int] = []


def no_module() -> int:
    return 3


def broken() -> nn.Module:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.bias, float("nan"))
    return model


def count_training(model: nn.Module, dataset: Dataset[Any], seed: int) -> None:
    CALLS.append(seed)
    nn.init.normal_(next(model.parameters()))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return CALLS.append, (99,)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return lenet5().state_dict()


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module", "safetensors", "float16"])
def test_weights_come_back_whatever_the_wrapping(tmp_path: Path, state: dict[str, Any], wrap: str) -> None:
    path = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    if wrap == "safetensors":
        safetensors.torch.save_file(state, path)
    elif wrap == "float16":
        state = {name: value.half().float() for name, value in state.items()}
        torch.save({name: value.half() for name, value in state.items()}, path)
    else:
        prefixed = {f"module.{name}": value for name, value in state.items()}
        wrapped = {"epoch": 3, "state_dict": prefixed}
        torch.save({"plain": state, "module": prefixed, "state_dict": wrapped}[wrap], path)
    model = load_model(ModelConfig(factory=LENET, weights=str(path)))
    assert not model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w"])
def test_save_then_load_keeps_the_fingerprint(tmp_path: Path, name: str) -> None:
    model, fresh = digits_resnet(), digits_resnet()
    save_weights(model, tmp_path / "sub" / name)
    load_weights(fresh, tmp_path / "sub" / name)
    assert fingerprint(fresh) == fingerprint(model)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == [name]


def test_the_first_saved_file_is_kept(tmp_path: Path) -> None:
    first, second = lenet5(), lenet5()
    for model in (first, second):
        save_weights(model, tmp_path / "w.safetensors")
    load_weights(second, tmp_path / "w.safetensors")
    assert fingerprint(second) == fingerprint(first)


def test_missing_counters_are_no_fault(tmp_path: Path) -> None:
    kept = {name: value for name, value in digits_resnet().state_dict().items() if "num_batches" not in name}
    torch.save(kept, tmp_path / "w.pth")
    model = digits_resnet()
    load_weights(model, tmp_path / "w.pth")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in kept.items())


def test_keys_that_do_not_fit_are_named(tmp_path: Path, state: dict[str, Any]) -> None:
    del state["fc1.weight"]
    state["conv1.bias"] = torch.zeros(3)
    state["conv2.bias"] = torch.zeros(50, dtype=torch.int8)
    state |= {f"extra{number}": torch.zeros(1) for number in range(7)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError) as caught:
        load_weights(lenet5(), tmp_path / "w.pth")
    message = str(caught.value)
    assert "1 missing: fc1.weight" in message and "conv2.bias" in message
    assert "conv1.bias (model float[20], file float[3])" in message
    assert "7 unexpected: extra0, extra1, extra2, extra3, extra4 and 2 more" in message
    assert "extra5" not in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, state: dict[str, Any], bad: float) -> None:
    state["fc1.bias"][7] = bad
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"fc1\.bias"):
        load_weights(lenet5(), tmp_path / "w.pth")


@pytest.mark.parametrize("legacy", [False, True], ids=["torch.save", "pickle"])
def test_pickled_code_is_never_run(tmp_path: Path, legacy: bool) -> None:
    CALLS.clear()
    path = tmp_path / "w.pth"
    if legacy:
        path.write_bytes(pickle.dumps({"a": Bomb()}))
    else:
        torch.save({"a": Bomb()}, path)
    with pytest.raises(ModelError, match="never run"):
        load_weights(lenet5(), path)
    assert CALLS == []


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no weights at all", b"junk"])
def test_damaged_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="weights file"):
        load_weights(lenet5(), tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {}, {"fc1.weight": "text"}, torch.zeros(3)])
def test_file_without_a_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="must hold"):
        load_weights(lenet5(), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("lenet5", "import path"),
        ("no_such_package_here:f", "does not import"),
        ("autoprune.models:lenet6", "has no 'lenet6'"),
        ("autoprune.models:__all__", "must be callable"),
        (f"{__name__}:no_module", "must return an nn.Module, got int"),
        (f"{__name__}:broken", "'bias' holds NaN"),
    ],
)
def test_bad_factory(factory: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(ModelConfig(factory=factory))


def test_bad_arguments_and_missing_file() -> None:
    with pytest.raises(ModelError, match="failed with arguments"):
        load_model(ModelConfig(factory=LENET, arguments={"classes": 3}))
    with pytest.raises(ModelError, match="does not exist"):
        load_model(ModelConfig(factory=LENET, weights="no/such/file.pth"))


def test_initial_weights_follow_the_seed_and_leave_the_random_state() -> None:
    before = torch.random.get_rng_state()
    prints = [fingerprint(load_model(ModelConfig(factory=LENET), seed=seed)) for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_happens_on_first_use_only(tmp_path: Path) -> None:
    CALLS.clear()
    path = tmp_path / "cache" / "w.safetensors"
    config = ModelConfig(factory=LENET, weights=str(path), train_on_first_use=f"{__name__}:count_training")
    images = TensorDataset(torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ModelError, match="training them needs images"):
        load_model(config)
    first = load_model(config, train=images, seed=4)
    assert fingerprint(load_model(config)) == fingerprint(first)
    assert CALLS == [4]


def test_digits_are_learned(tmp_path: Path) -> None:
    splits = load_splits(DataConfig(dataset="digits"))
    config = ModelConfig(
        factory="autoprune.models:digits_resnet",
        weights=str(tmp_path / "w.safetensors"),
        train_on_first_use="autoprune.models:train_digits",
    )
    model = load_model(config, train=splits.train)
    correct = sum(
        int((model(images).argmax(1) == labels).sum())
        for dataset in (splits.validation, splits.test)
        for images, labels in loader(dataset)
    )
    assert correct / 719 >= 0.975


@pytest.mark.skipif(not (DATA / "cifar-10-batches-py").is_dir(), reason="no CIFAR-10 in data/")
@pytest.mark.skipif(not (DATA / "weights").is_dir(), reason="no weights in data/")
def test_published_resnet20_scores_its_accuracy_on_cifar10() -> None:
    splits = load_splits(DataConfig(dataset="cifar10", root=str(DATA)))
    weights = str(DATA / "weights" / "cifar10_resnet20.pth")
    model = load_model(ModelConfig(factory="autoprune.models:cifar_resnet20", weights=weights))
    with torch.inference_mode():
        correct = sum(
            int((model(images).argmax(1) == labels).sum()) for images, labels in loader(splits.validation)
        )
    assert correct == pytest.approx(1817, abs=2)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_what_parallel_networks_put_before_names_is_taken_off(prefix: str, tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        """Its own names begin as those of a parallel network do."""

        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(3, 3)

    plain, wrapped = nn.Linear(3, 3), Wrapped()
    torch.save({prefix + name: value for name, value in plain.state_dict().items()}, tmp_path / "plain.pth")
    torch.save(wrapped.state_dict(), tmp_path / "wrapped.pth")
    for source, fresh, file in ((plain, nn.Linear(3, 3), "plain"), (wrapped, Wrapped(), "wrapped")):
        load_weights(fresh, tmp_path / f"{file}.pth")
        for name, value in source.state_dict().items():
            assert fresh.state_dict()[name].equal(value)
