"""Attention over packed texts on CPU: one call per run of equal lengths, on views of the row.

Two ways, chosen by what was measured on one AVX512-BF16 core (milliseconds for 1,000 tokens of 16 heads of 128,
causal):

    texts x tokens   10 x 100   5 x 200   2 x 500   1 x 1000
    SDPA (flash)         14.9      23.2      55.0       72.6
    blocks                8.9      11.9      21.4       42.5

Blocks are plain batched products in bfloat16 over 128 query rows at a time: scores stay in cache, a causal block only
looks at the keys before its end, and heads that share keys form one taller matrix. With heads below 64, and in float32,
SDPA wins.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812  # the name that the whole field uses

from gristmill_worker.encoder.local.layout import Layout

#: Fewer rows repack the keys too often, more leave the cache. Scores of a 30,000-token text: 120 MB for 16 heads.
_BLOCK_ROWS: Final = 128
#: Tokens from which on causal blocks share shapes.
_LONG_TEXT: Final = 2_048
_MIN_HEAD: Final = 64


def grouped_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    """Attention inside each text of a packed row.

    Args:
        query: (1, heads, sum T, size).
        key: (1, key heads, sum T, size), as `value`; key heads divide heads.
        value: see `key`.
        layout: where each text lies.
        scaling: factor on the scores; None means 1 / sqrt(size).
        causal: whether a token sees only what is before it.
        window: tokens that a token sees to each side, itself included; None means all.

    Returns:
        (1, sum T, heads, size).
    """
    heads, tokens, size = query.shape[1:]
    row = query.new_empty(1, tokens, heads, size)
    in_blocks = query.dtype is torch.bfloat16 and size >= _MIN_HEAD
    scale = size**-0.5 if scaling is None else scaling
    for first, count, length in layout.runs:
        q, k, v = (_texts(x, first, count, length) for x in (query, key, value))
        out = row[0, first : first + count * length].view(count, length, heads, size)
        if window is not None and window < length:
            mask = band(length, window, causal, query.device)
            out.copy_(_sdpa(q, k, v, scale, mask=mask).transpose(1, 2))
        elif in_blocks:
            _blocked(q, k, v, out, scale, causal)
        else:
            out.copy_(_sdpa(q, k, v, scale, causal=causal and length > 1).transpose(1, 2))
    return row


def _texts(x: torch.Tensor, first: int, count: int, length: int) -> torch.Tensor:
    """(1, heads, sum T, size) -> (count, heads, length, size) of one run, as a view."""
    part = x[0, :, first : first + count * length]
    return part.view(part.shape[0], count, length, part.shape[2]).transpose(0, 1)


def _sdpa(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float,
    *,
    causal: bool = False,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=k.shape[1] != q.shape[1]
    )


def _blocked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, scale: float, causal: bool) -> None:
    """Write attention of (B, heads, T, size) into `out` (B, T, heads, size), block by block of query rows."""
    count, heads, length, size = q.shape
    key_heads = k.shape[1]
    shared = heads // key_heads
    keys = k.reshape(count * key_heads, length, size).transpose(1, 2)
    values = v.reshape(count * key_heads, length, size)
    queries = q.unflatten(1, (key_heads, shared))  # type: ignore[no-untyped-call]  # torch's stub has no types here
    for start in range(0, length, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, length)
        seen, step = _keys_seen(stop, length) if causal else length, stop - start
        part = queries[:, :, :, start:stop].reshape(count * key_heads, shared * step, size)
        scores = torch.baddbmm(_zero(), part, keys[:, :, :seen], beta=0, alpha=scale)
        if causal:
            scores.view(count * key_heads, shared, step, seen)[..., start:].add_(_future(step, seen - start))
        mixed = torch.bmm(torch.softmax(scores, -1), values[:, :seen])
        shaped = mixed.view(count, key_heads, shared, step, size).permute(0, 3, 1, 2, 4)
        out[:, start:stop].view(count, step, key_heads, shared, size).copy_(shaped)


def _keys_seen(stop: int, length: int) -> int:
    """Keys that a causal block looks at. Long texts round up: oneDNN prepares and keeps a kernel for every new shape."""
    return stop if length <= _LONG_TEXT else min(length, -(-stop // _LONG_TEXT) * _LONG_TEXT)


@lru_cache(maxsize=2 * _BLOCK_ROWS)
def _future(rows: int, columns: int) -> torch.Tensor:
    """(rows, columns) bfloat16: minus infinity where the key comes after the query, else 0."""
    return torch.full((rows, columns), float("-inf"), dtype=torch.bfloat16).triu(1)


@lru_cache(maxsize=1)
def _zero() -> torch.Tensor:
    return torch.zeros(1, dtype=torch.bfloat16)


def band(length: int, window: int, causal: bool, device: torch.device) -> torch.Tensor:
    """Boolean (length, length), True where a token may look: less than `window` away, backwards only if causal."""
    at = torch.arange(length, device=device)
    distance = at[:, None] - at[None, :]
    near = distance.abs() < window
    return near & (distance >= 0) if causal else near
