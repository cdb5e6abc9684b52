"""`nn.MultiheadAttention` with any number of heads: torch insists on as many as its width has room for."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.errors import ModelError
from autoprune.graph.multi_head import attention_forward, each


class PrunedAttention(nn.MultiheadAttention):
    """An `nn.MultiheadAttention` that has lost heads: same parameters, calls and returns.

    `embed_dim` is the width of the queries and the output, `num_heads` the number of heads left, each as
    wide as before. Weights that are returned are those of the heads left, or their mean.
    """

    # Tells torch's fused encoder layer, which assumes all heads, to leave this attention alone.
    _qkv_same_embed_dim = False

    @classmethod
    def of(cls, attention: nn.MultiheadAttention) -> PrunedAttention:
        """The same attention on the same tensors. ModelError for what cannot lose heads."""
        if attention.bias_k is not None or attention.add_zero_attn:
            raise ModelError("an attention with bias_k or add_zero_attn cannot lose heads.")
        pruned = cls.__new__(cls)
        state = dict(vars(attention))
        # In the instance too: where it is missing, a copy takes it for true.
        state["_qkv_same_embed_dim"] = False
        # Tables of the module's own: what is installed in one is not meant for the other.
        tables = {name: copy.copy(value) for name, value in state.items() if isinstance(value, dict)}
        vars(pruned).update({**state, **tables})
        return pruned

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        # As in the dense one, so that both call the same functions in the same order.
        key_padding_mask = _canonical_mask(key_padding_mask, "key_padding_mask", query, beside=attn_mask)
        attn_mask = _canonical_mask(attn_mask, "attn_mask", query)
        turned = self.batch_first and query.dim() == 3
        if turned:
            query, key, value = each(lambda item: item.transpose(1, 0), query, key, value)
        output, weights = attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=self.in_proj_weight is None,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (output.transpose(1, 0) if turned else output), weights


def _canonical_mask(
    mask: Tensor | None, name: str, query: Tensor, beside: Tensor | None = None
) -> Tensor | None:
    """A mask to add, of the queries' type; a warning where the type of the other one is another."""
    found: Tensor | None = F._canonical_mask(
        mask=mask,
        mask_name=name,
        other_type=F._none_or_dtype(beside),
        other_name="attn_mask" if name != "attn_mask" else "",
        target_type=query.dtype,
        check_other=name != "attn_mask",
    )
    return found


def exchange(model: nn.Module, path: str, attention: nn.MultiheadAttention) -> PrunedAttention:
    """Put a `PrunedAttention` in the place, or the places, of an attention within a model."""
    pruned = PrunedAttention.of(attention)
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module is attention and name:
            parent, _, leaf = name.rpartition(".")
            model.get_submodule(parent)._modules[leaf] = pruned
    return pruned
