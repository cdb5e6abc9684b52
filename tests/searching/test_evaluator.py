from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from autoprune.components import create
from autoprune.data.inputs import Inputs
from autoprune.data.outputs import flatten
from autoprune.errors import DataError, ModelError
from autoprune.graph import Slicer
from autoprune.reconstruction import reconstructions
from autoprune.searching.evaluator import Evaluator
from autoprune.searching.metrics import Accuracy
from autoprune.searching.outputs import OutputError
from tests.small import NETWORKS, make_bench, random_kept

each_network = pytest.mark.parametrize("network", NETWORKS)


def make(network: str, method: str = "sequential", batch_norm: bool = False) -> tuple[Evaluator, Tensor]:
    small = NETWORKS[network]
    model, images = small.model(), small.images(32)
    bench = make_bench(model, images, chunks=2)
    error = OutputError(model, [Inputs((images,))])

    @torch.no_grad()
    def metric(candidate: nn.Module) -> float:
        assert not candidate.training
        return -float(candidate(images).std())

    # A few steps show the same as many.
    options = {"steps": 4, "batch": 16} if method == "casm" else {}
    chosen = create(reconstructions, method, options)
    return Evaluator(bench, chosen, metric, error, batch_norm=batch_norm), images


def same(left: nn.Module, right: nn.Module) -> None:
    first, second = left.state_dict(), right.state_dict()
    assert list(first) == list(second)
    for name, tensor in first.items():
        assert tensor.equal(second[name]), name


@pytest.mark.parametrize("method", list(reconstructions))
@each_network
def test_a_reused_network_equals_a_fresh_one(network: str, method: str) -> None:
    evaluator, images = make(network, method, batch_norm=method == "none")
    before = copy.deepcopy(evaluator.bench.model.state_dict())
    candidates = [
        random_kept(evaluator.bench.graph, share, seed) for seed, share in enumerate((0.3, 0.9, 0.5))
    ]
    one_group = dict([next(iter(candidates[0].items()))])
    for kept in (*candidates, one_group, candidates[0], evaluator.bench.graph.all_kept(), {}):
        with torch.no_grad():
            same(evaluator.sliced(kept), Slicer(evaluator.bench.model, evaluator.bench.graph).build(kept))
            reused = evaluator.restored(kept)
            output = reused(images)
            built = evaluator.build(kept)
            same(reused, built)
            torch.testing.assert_close(built(images), output, rtol=0, atol=0)
        assert type(built) is type(evaluator.bench.model) and not built.training
    for name, tensor in evaluator.bench.model.state_dict().items():
        assert tensor.equal(before[name])


@each_network
def test_interleaved_candidates_measure_the_same(network: str) -> None:
    evaluator, _ = make(network)
    candidates = [random_kept(evaluator.bench.graph, share) for share in (0.4, 0.8)]
    first = [evaluator.measure(kept) for kept in candidates]
    again = [evaluator.measure(kept) for kept in reversed(candidates)]
    assert first == again[::-1] and first[0] != first[1]
    other, _ = make(network)
    assert other.measure(candidates[1]) == first[1]


def test_a_built_network_is_its_own() -> None:
    evaluator, images = make("residual")
    kept = random_kept(evaluator.bench.graph)
    built = evaluator.build(kept)
    output = built(images).detach()
    built.train()
    evaluator.measure(random_kept(evaluator.bench.graph, 0.9))
    built.eval()
    torch.testing.assert_close(built(images), output, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.zero_()
    torch.testing.assert_close(evaluator.build(kept)(images), output, rtol=0, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_refused(value: float) -> None:
    evaluator, _ = make("chain")
    evaluator.metric = lambda network: value
    with pytest.raises(DataError, match="metric must be a finite number"):
        evaluator.measure({})


def test_the_output_error_is_zero_for_the_dense_and_one_for_the_mean() -> None:
    small = NETWORKS["chain"]
    model, images = small.model(), small.images(20)
    error = OutputError(model, [Inputs((part,)) for part in images.chunk(3)])
    assert error(model) == 0
    mean = model(images).detach().mean(0)

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return mean.expand(len(x), -1)

    assert error(Mean()) == pytest.approx(1, rel=1e-4)
    with pytest.raises(ModelError, match="same output for all of 20 images"):
        OutputError(Mean(), [Inputs((images,))])


def test_outputs_of_any_structure() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    found = flatten({"a": x, "b": [x.long(), (x.reshape(2, 3, 1), 7)], "c": None, "d": torch.tensor(1.0)}, 2)
    torch.testing.assert_close(found, torch.cat([x, x], 1))
    with pytest.raises(ModelError, match="no floating-point tensor"):
        flatten([x.long()], 2)


def test_accuracy_counts_hits_and_refuses_what_has_no_labels() -> None:
    eye, cpu = torch.eye(4), torch.device("cpu")
    accuracy = Accuracy([(eye[:3], torch.tensor([0, 1, 0])), (eye[3:], torch.tensor([3]))], cpu)
    assert accuracy(nn.Identity()) == 0.75 and accuracy.images == 4 and len(accuracy.inputs) == 2
    bad: list[list[object]] = [[], [eye], [(eye, eye)], [(eye, torch.tensor([1]))], [(eye, [1, 2, 3, 4])]]
    for loader in bad:
        with pytest.raises(DataError):
            Accuracy(loader, cpu)
    with pytest.raises(DataError, match="NaN or infinity"):
        Accuracy([(eye / 0, torch.arange(4))], cpu)
    with pytest.raises(DataError, match=r"\(batch, classes\)"):
        Accuracy([(torch.zeros(2, 3, 4), torch.arange(2))], cpu)(nn.Identity())
