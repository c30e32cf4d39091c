"""The padding-free forward pass: texts laid end to end in one row, attention inside each text only.

In:  B texts of lengths T_1..T_B.  Out: states (sum T, H), no padding computed anywhere.
How: one row (1, sum T) of token ids, positions that restart with each text, and an attention function registered
with transformers' `AttentionInterface` under a name that has no mask function: no (T, T) mask is ever built, and nobody
asks the device whether positions restart, which would wait for it. Every linear layer runs once over all tokens. The
layout travels to the attention function as the keyword `packed`, which models of the current transformers pass through to
it; a model that does not is found by the parity gate and falls back to padding.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import AttentionInterface

from gristmill_worker.encoder.local.cpu.attention import grouped_attention
from gristmill_worker.encoder.local.cuda.attention import varlen, varlen_kernel
from gristmill_worker.encoder.local.layout import PACKED, Layout, seen

#: What some models want of their attention besides (Gemma 2's capped scores, GPT-OSS's sinks): small differences on small
#: texts, which the parity gate might let pass.
_NOT_PERFORMED: Final = ("softcap", "s_aux", "sinks", "position_bias", "attention_bias", "head_mask")


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    packed: Layout | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention inside each text of a packed row; the signature is that of transformers' attention functions.

    Args:
        module: the attention layer; its `is_causal` decides unless the call says otherwise.
        query: (1, heads, sum T, head size).
        key: (1, key heads, sum T, head size), as `value`.
        attention_mask: unused, since the layout says it all.
        scaling: factor on the scores.
        sliding_window: tokens that a local layer sees, itself included; to both sides if not causal.
        packed: the layout. Models that drop it cannot be packed.
        more: what else the model wants, which may be more than is performed here.

    Returns:
        (1, sum T, heads, head size), and no attention weights.
    """
    if packed is None:
        raise TypeError(f"{type(module).__name__} does not pass keywords to its attention: it cannot be packed")
    if unknown := [name for name in _NOT_PERFORMED if more.get(name) is not None]:
        raise TypeError(f"{type(module).__name__} wants {', '.join(unknown)} of its attention")
    causal, window = seen(module, packed, sliding_window, is_causal)
    if query.is_cuda:
        return varlen(query, key, value, packed.offsets, packed.longest, scaling, causal, window), None
    return grouped_attention(query, key, value, packed, scaling, causal, window), None


def register(device: torch.device) -> None:
    """Make the packed attention known to transformers, its kernel chosen; harmless when repeated."""
    if device.type == "cuda":
        varlen_kernel()
    AttentionInterface.register(PACKED, packed_attention)
