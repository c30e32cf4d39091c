"""The padding-free forward pass: texts laid end to end in one row, attention inside each text only.

In:  B texts of lengths T_1..T_B.  Out: states (sum T, H), no padding computed anywhere.
How: one row (1, sum T) of token ids, positions that restart with each text, and an attention function registered
with transformers' `AttentionInterface`; its mask function returns None, so no (T, T) mask is ever built. Every linear
layer runs once over all tokens. The layout travels to the attention function as the keyword `packed`, which models of
the current transformers pass through to it; a model that does not is found by the parity gate and falls back to
padding.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from gristmill_worker.encoder.local.cpu_attention import grouped_attention
from gristmill_worker.encoder.local.layout import Layout

#: Name under which models select this attention.
PACKED: Final = "gristmill_packed"


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
    **_: Any,
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

    Returns:
        (1, sum T, heads, head size), and no attention weights.
    """
    if packed is None:
        raise TypeError(f"{type(module).__name__} does not pass keywords to its attention: it cannot be packed")
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    window = sliding_window if sliding_window is not None and sliding_window < packed.longest else None
    run = _varlen if query.is_cuda else grouped_attention
    return run(query, key, value, packed, scaling, causal, window), None


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    """One kernel call for all texts: flash-attn where installed, else torch's own `varlen_attn`."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    back = -1 if window is None else window - 1
    sides = (back, 0 if causal else back)
    if (flash := _flash_attn()) is not None:
        out = flash(
            q,
            k,
            v,
            layout.offsets,
            layout.offsets,
            layout.longest,
            layout.longest,
            softmax_scale=scaling,
            causal=causal,
            window_size=sides,
        )
    else:
        from torch.nn.attention.varlen import varlen_attn

        out = varlen_attn(
            q,
            k,
            v,
            layout.offsets,
            layout.offsets,
            layout.longest,
            layout.longest,
            scale=scaling,
            window_size=sides,
            enable_gqa=k.shape[1] != q.shape[1],
        )
    row: torch.Tensor = out.unsqueeze(0)
    return row


def _flash_attn() -> Any:
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError:
        return None
    return flash_attn_varlen_func


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def register() -> None:
    """Make the packed attention known to transformers; harmless when repeated."""
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, _no_mask)
