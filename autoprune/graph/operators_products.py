"""Rules for products of activations: matmul, einsum and attention.

In a batched product every index of a batch dimension is computed from the same index of the factors
alone, so channels that run along it (the heads of an attention) pass, and all that a factor has at one
index is tied. A dimension of one factor alone passes too (the columns of the values, where queries and
keys stay dense); along a dimension that is summed over, channels are mixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from autoprune.graph.call import Call, Rule
from autoprune.graph.equations import parsed
from autoprune.graph.labels import CONSTANT, Labels
from autoprune.graph.operators_elementwise import combine_spread
from autoprune.graph.operators_layers import matrix_product
from autoprune.graph.spread import narrowed, tied, varying
from autoprune.graph.trace import One, Product, Value

_MIXES = "mixes channels"


@dataclass(frozen=True)
class _Factor:
    """Labels, int64, with one letter for each dimension; dimensions that are broadcast are left out."""

    labels: Tensor
    letters: str

    @property
    def is_constant(self) -> bool:
        return bool((self.labels == CONSTANT).all())

    def has(self, letter: str) -> bool:
        return letter in self.letters

    def varies(self) -> set[str]:
        return {self.letters[dim] for dim in varying(self.labels)}

    def along(self, letters: str) -> Tensor:
        """Labels at the first index of all other dimensions, in the order of `letters`; 1 where missing."""
        labels = narrowed(self.labels, [d for d, letter in enumerate(self.letters) if letter not in letters])
        own = [letter for letter in self.letters if letter in letters]
        sizes = {letter: self.labels.size(dim) for dim, letter in enumerate(self.letters)}
        labels = labels.reshape([sizes[letter] for letter in own])
        order = [own.index(letter) for letter in letters if letter in own]
        return labels.permute(order).reshape([sizes.get(letter, 1) for letter in letters])


def product(call: Call, factors: list[tuple[One, str]], output: str, shape: tuple[int, ...]) -> One | None:
    """Labels of a product in Einstein's notation; None where nothing but mixed channels comes in."""
    sizes = dict(zip(output, shape, strict=True))
    known = [_factor(value, letters, sizes) for value, letters in factors]
    moving = [factor for factor in known if not factor.is_constant]
    letters = _channel_letters(known, moving, output)
    if not letters:
        return None
    mixed = [factor for factor in moving if not set(letters) <= set(factor.letters)]
    if mixed and call.trace.ledger.lenient:
        return None
    vectors = [_bound(call, factor, letters) for factor in moving if set(factor.letters) & set(letters)]
    for factor in mixed:
        call.freeze(factor.labels, "multiplies all channels by it")
    first = vectors[0]
    for other in vectors[1:]:
        call.unite(first, other)
    labels = max(vectors, key=lambda vector: vector.numel())
    _record(call, labels, sizes, letters, known)
    place = [sizes[letter] if letter in letters else 1 for letter in output]
    return call.spread(labels.expand([sizes[k] for k in letters]).reshape(place).expand(shape))


def _factor(value: One, letters: str, sizes: dict[str, int]) -> _Factor:
    labels = value.expanded()
    spread = [d for d, k in enumerate(letters) if labels.size(d) == 1 and sizes.get(k, 1) > 1]
    for dim in reversed(spread):
        labels = labels.select(dim, 0)
    return _Factor(labels, "".join(k for d, k in enumerate(letters) if d not in spread))


def _channel_letters(known: list[_Factor], moving: list[_Factor], output: str) -> str:
    """Dimensions of the result that channels run along: those of all factors, else those of one alone."""
    fixed = {k for factor in known if factor.is_constant for k in factor.letters}
    found = {k for factor in moving for k in factor.varies()} & set(output) - fixed
    common = {k for k in found if all(factor.has(k) for factor in moving)}
    chosen = common or {k for k in found if sum(factor.has(k) for factor in moving) == 1}
    return "".join(k for k in output if k in chosen)


def _bound(call: Call, factor: _Factor, letters: str) -> Tensor:
    """Tie what the factor has at each index of `letters`; its labels along them."""
    others = [dim for dim, letter in enumerate(factor.letters) if letter not in letters]
    reason = f"{call.where} meets a constant"
    labels = tied(factor.labels, others, call.trace.ledger, reason)
    return _Factor(labels, factor.letters).along(letters)


def _record(call: Call, labels: Tensor, sizes: dict[str, int], letters: str, known: list[_Factor]) -> None:
    inner = {k: f.labels.size(d) for f in known for d, k in enumerate(f.letters) if k not in sizes}
    if not inner:
        # Nothing is summed: torch multiplies, which counts nothing.
        return
    macs = math.prod(sizes.values()) * math.prod(inner.values())
    whole = labels.expand([sizes[letter] for letter in letters]).reshape(-1)
    call.trace.products.append(Product(whole, macs // whole.numel()))


def matmul(call: Call) -> Value:
    """matmul, bmm, mm: (..., M, K) times (..., K, N), or times a weight (K, N)."""
    name = "mat2" if "mat2" in call.arguments else "other"
    if (found := matrix_product(call, "self", call.arg(name))) is not None:
        return found
    left, right = _left(call), call.raw(name)
    if left.ndim < 2 or right.ndim < 2:
        return call.give_up(_MIXES)
    batch = _letters(len(call.shape) - 2)
    factors = [(left, _last(batch, left.ndim - 2) + "mk"), (right, _last(batch, right.ndim - 2) + "kn")]
    return _or_give_up(call, product(call, factors, batch + "mn", call.shape))


def _left(call: Call) -> One:
    """Labels of the left factor; a matrix of the model's, such as a graph's adjacency, stays as it is."""
    labels = call.raw("self")
    if call.state_name(call.arg("self")) is None or labels.ndim != 2:
        return labels
    call.freeze(labels, _MIXES)
    return Labels.uniform(tuple(labels.shape))


def baddbmm(call: Call) -> Value:
    """A sum of (B, M, N), often a mask, and a batched product."""
    factors = [(call.raw("batch1"), "bmk"), (call.raw("batch2"), "bkn")]
    return _added(call, product(call, factors, "bmn", call.shape))


def addmm(call: Call) -> Value:
    """A sum of (M, N), often a bias, and a product; `spell` gives it more dimensions than torch does."""
    added = call.arg("self")
    plain = call.arg("beta") == call.arg("alpha") == 1 and added.meta["val"].shape == call.shape[-1:]
    bias = added if plain else None
    found: One | None = matrix_product(call, "mat1", call.arg("mat2"), bias)
    if found is None:
        left, right = call.raw("mat1"), call.raw("mat2")
        letters = _letters(left.ndim - 1)
        found = product(call, [(left, letters + "k"), (right, "kn")], letters + "n", call.shape)
    elif plain:
        return found
    return _added(call, found)


def _added(call: Call, found: One | None) -> Value:
    """The product and what is added to it."""
    if found is None:
        return call.give_up(_MIXES)
    return combine_spread(call, [found.expanded(), call.raw("self").expanded()], call.shape)


def einsum(call: Call) -> Value:
    """Two factors; an ellipsis, a diagonal, or more factors mix."""
    inputs, output = parsed(call.arg("equation"))
    values = [call.raw_of(node) for node in call.arg("tensors")]
    plain = all(len(set(k)) == len(k) == v.ndim for k, v in zip(inputs, values, strict=False))
    if len(inputs) != 2 or len(values) != 2 or not plain or "." in output or len(output) != len(call.shape):
        return call.give_up(_MIXES)
    return _or_give_up(call, product(call, list(zip(values, inputs, strict=True)), output, call.shape))


def attention(call: Call) -> Value:
    """scaled_dot_product_attention: queries (..., L, E), keys (..., S, E), values (..., S, V)."""
    query, key, value = (call.raw(name) for name in ("query", "key", "value"))
    if query.ndim < 3 or query.ndim != key.ndim or key.ndim != value.ndim:
        return call.give_up(_MIXES)
    key, value = (_repeated(call, item, query.shape[-3]) for item in (key, value))
    batch = _letters(query.ndim - 2)
    shape = (*call.shape[:-1], key.shape[-2])
    scores = product(call, [(query, batch + "le"), (key, batch + "se")], batch + "ls", shape)
    if scores is not None and call.arg("attn_mask") is not None:
        inputs = [scores.expanded(), call.raw("attn_mask").expanded()]
        scores = combine_spread(call, inputs, shape)
    if scores is None:
        for factor in (query, key):
            call.freeze(factor, _MIXES)
        scores = Labels.uniform(shape)
    scores = call.whole(scores, [-1])
    if scores is None:
        return call.give_up(_MIXES)
    factors = [(scores, batch + "ls"), (value, batch + "sv")]
    return _or_give_up(call, product(call, factors, batch + "lv", call.shape))


def _repeated(call: Call, item: One, heads: int) -> One:
    """Keys or values that several heads of the queries share (grouped-query attention), repeated."""
    own = item.shape[-3]
    if not call.arg("enable_gqa", False) or own == heads:
        return item
    return call.spread(item.expanded().repeat_interleave(heads // own, dim=-3))


def _or_give_up(call: Call, found: One | None) -> Value:
    return call.give_up(_MIXES) if found is None else found


def _letters(count: int) -> str:
    return "ABCDEFGHIJKL"[:count]


def _last(letters: str, count: int) -> str:
    return letters[len(letters) - count :]


PRODUCTS: dict[str, Rule] = {
    "matmul": matmul,
    "bmm": matmul,
    "mm": matmul,
    "addmm": addmm,
    "baddbmm": baddbmm,
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
    "_scaled_dot_product_attention": attention,
}
