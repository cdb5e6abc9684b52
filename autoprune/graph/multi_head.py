"""Multi-head attention in functions that can be watched, with heads as wide as the weights say.

The numbers are those of torch's `multi_head_attention_forward`, which hides its linear maps from whoever
watches torch functions, and insists on as many heads as the input has room for.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from autoprune.errors import ModelError

Masks = tuple[Tensor | None, bool]


def attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """`F.multi_head_attention_forward`, but a head is as wide as the weights say, not as the input is.

    Inputs are (L, N, E) and (S, N, E), or without N; weights of the heads (N, heads, L, S) or their mean.
    """
    if bias_k is not None or add_zero_attn or static_k is not None or static_v is not None:
        raise ModelError("an attention with bias_k, add_zero_attn or static keys cannot lose heads.")
    batched = query.dim() == 3
    if not batched:
        query, key, value = each(lambda item: item.unsqueeze(1), query, key, value)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    # Batch first, so that the linear maps are called as everywhere else.
    query, key, value = each(lambda item: item.transpose(0, 1), query, key, value)
    if use_separate_proj_weight:
        weights = [q_proj_weight, k_proj_weight, v_proj_weight]
        biases = [None] * 3 if in_proj_bias is None else list(in_proj_bias.chunk(3))
        pairs = zip((query, key, value), weights, biases, strict=True)
        parts = [F.linear(item, weight, bias) for item, weight, bias in pairs if weight is not None]
    else:
        assert in_proj_weight is not None
        parts = _packed(query, key, value, in_proj_weight, in_proj_bias)
    q, k, v = (_by_head(item, num_heads) for item in parts)
    mask, causal = _merged(attn_mask, key_padding_mask, q, k, is_causal, need_weights)
    dropout_p = dropout_p if training else 0.0
    if need_weights:
        output, heads = _weighted(q, k, v, mask, dropout_p)
        heads = heads.mean(dim=1) if average_attn_weights else heads
    else:
        output, heads = F.scaled_dot_product_attention(q, k, v, mask, dropout_p, causal), None
    output = F.linear(output.transpose(1, 2).flatten(2), out_proj_weight, out_proj_bias).transpose(0, 1)
    if not batched:
        return output.squeeze(1), None if heads is None else heads.squeeze(0)
    return output, heads


def each(change: Callable[[Tensor], Tensor], *items: Tensor) -> list[Tensor]:
    """Changed items; what was one tensor stays one, so that one linear map serves it."""
    changed: dict[int, Tensor] = {}
    for item in items:
        if id(item) not in changed:
            changed[id(item)] = change(item)
    return [changed[id(item)] for item in items]


def _packed(query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """Projections by one weight for all three; self-attention is one linear map."""
    if query is key and key is value:
        return list(F.linear(query, weight, bias).chunk(3, dim=-1))
    biases = [None] * 3 if bias is None else list(bias.chunk(3))
    pairs = zip((query, key, value), weight.chunk(3), biases, strict=True)
    return [F.linear(item, own, own_bias) for item, own, own_bias in pairs]


def _by_head(item: Tensor, heads: int) -> Tensor:
    """(N, L, heads x D) -> (N, heads, L, D)."""
    return item.reshape(*item.shape[:2], heads, item.shape[-1] // heads).transpose(1, 2)


def _merged(
    attn_mask: Tensor | None,
    padding: Tensor | None,
    q: Tensor,
    k: Tensor,
    is_causal: bool,
    need_weights: bool,
) -> Masks:
    """One mask to add, (N or 1, heads or 1, L or 1, S), and whether causal is all there is to it."""
    if is_causal and attn_mask is None:
        raise RuntimeError("is_causal is a hint beside attn_mask, which is missing.")
    if is_causal and padding is None and not need_weights:
        return None, True
    mask = None if attn_mask is None else _to_add(attn_mask, q)
    if mask is not None and mask.dim() == 3:
        mask = mask.view(-1, q.shape[1] if mask.shape[0] > 1 else 1, *mask.shape[1:])
    if padding is not None:
        added = _to_add(padding, q).view(k.shape[0], 1, 1, k.shape[2])
        mask = added if mask is None else mask + added
    return mask, False


def _to_add(mask: Tensor, q: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=q.dtype).masked_fill_(mask, -math.inf)
    return mask.to(q.dtype)


def _weighted(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> tuple[Tensor, Tensor]:
    scores = (q * math.sqrt(1.0 / q.shape[-1])) @ k.transpose(-2, -1)
    weights = F.dropout(F.softmax(scores if mask is None else scores + mask, dim=-1), dropout)
    return weights @ v, weights


def opened(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any] | None:
    """A function that does the same in functions that can be watched, for one that hides its linear maps."""
    if func is not F.multi_head_attention_forward:
        return None
    bound = _SIGNATURE.bind(*args, **kwargs).arguments
    hidden = ("bias_k", "add_zero_attn", "static_k", "static_v")
    adds_keys = any(not (bound.get(name) is None or bound[name] is False) for name in hidden)
    return None if adds_keys else attention_forward


_SIGNATURE = inspect.signature(attention_forward)
