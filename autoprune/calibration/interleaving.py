"""Whether several passes through one network can be under way at the same time, each in its own thread."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from autoprune.calibration.call import Function
from autoprune.data.inputs import Inputs
from autoprune.tensors import in_own_precision

Answer = list[Tensor]
TOLERANCE = 1e-3
"""Relative to the greatest output."""


@in_own_precision
@torch.no_grad()
def interleaves(model: nn.Module, one: Inputs, other: Inputs) -> bool:
    """False where passes that take turns at every operator answer otherwise than one after the other.

    That is so where a forward keeps tensors for later outside its local variables, as on a module or by a
    hook: it then finds those of another pass. A network that fails on these inputs is not judged: True.
    """
    try:
        # Under a mode as well: some modules take another way there, with other rounding.
        with _Yielding():
            alone = [_answer(model, inputs) for inputs in (one, other)]
    except Exception:
        # Whoever runs it next says what is wrong with it.
        return True
    together = _Turns(model, (one, other)).answers()
    return all(_same(a, b) for a, b in zip(alone, together, strict=True))


def _answer(model: nn.Module, inputs: Inputs) -> Answer:
    return [leaf for leaf in pytree.tree_leaves(inputs.call(model)) if isinstance(leaf, Tensor)]


def _same(alone: Answer, together: Answer | None) -> bool:
    if together is None or len(alone) != len(together):
        return False
    return all(_near(a, b) for a, b in zip(alone, together, strict=True))


def _near(alone: Tensor, together: Tensor) -> bool:
    """Equal but for rounding, which need not be the same each time on a GPU; NaN is others' concern."""
    if alone.shape != together.shape:
        return False
    exact = torch.complex128 if alone.is_complex() else torch.float64
    one, other = alone.to(exact), together.to(exact)
    return not bool((one - other).abs().max() > TOLERANCE * one.abs().max()) if alone.numel() else True


class _Turns:
    """Two passes in two threads, one of which runs at any moment; the turn goes over at every operator."""

    def __init__(self, model: nn.Module, inputs: tuple[Inputs, Inputs]) -> None:
        self.model, self.inputs = model, inputs
        self.running, self.turn = {0, 1}, 0
        self._changed = threading.Condition()
        self._answers: list[Answer | None] = [None, None]

    def answers(self) -> list[Answer | None]:
        """Of both passes, None for one that failed."""
        threads = [threading.Thread(target=self._run, args=(index,)) for index in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self._answers

    def _run(self, index: int) -> None:
        self._wait(index)
        try:
            with torch.no_grad(), _Yielding(self, index):
                self._answers[index] = _answer(self.model, self.inputs[index])
        except Exception:
            # Alone it did not fail: the answer stays None.
            pass
        finally:
            self.running.discard(index)
            self._hand_over(index)

    def give_way(self, index: int) -> None:
        """Let the other pass run one operator, if it is not over."""
        self._hand_over(index)
        self._wait(index)

    def _hand_over(self, index: int) -> None:
        with self._changed:
            self.turn = 1 - index if 1 - index in self.running else index
            self._changed.notify_all()

    def _wait(self, index: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.turn == index)


class _Yielding(TorchFunctionMode):
    def __init__(self, turns: _Turns | None = None, index: int = 0) -> None:
        super().__init__()
        self.turns, self.index = turns, index

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if self.turns is not None:
            self.turns.give_way(self.index)
        return output
