"""From token states to one vector per text, in float32, and cutting vectors to a smaller size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gristmill_schemas import Pooling
from gristmill_worker.encoder.base import Vectors

if TYPE_CHECKING:
    import torch


def pool_packed(
    states: torch.Tensor, offsets: torch.Tensor, pooling: Pooling, skip: torch.Tensor | None = None
) -> torch.Tensor:
    """Pool packed states.

    Args:
        states: (sum T, D), texts end to end, any float dtype.
        offsets: (B + 1,) integers, where each text starts and the last one ends.
        pooling: which states count.
        skip: (B,) integers below each T, how many tokens at the start of each text do not count; None counts all.

    Returns:
        float32 (B, D), not normalised.
    """
    import torch

    starts, ends = offsets[:-1].long(), offsets[1:].long()
    first = starts if skip is None else starts + skip
    if pooling in (Pooling.LAST, Pooling.CLS):
        return states[ends - 1 if pooling is Pooling.LAST else first].float()
    # float32 before summing: in bfloat16 a sum over hundreds of tokens loses most of its digits.
    wide, borders = states.float(), offsets.long()
    if pooling is Pooling.MEAN and skip is None:
        return torch.segment_reduce(wide, "mean", offsets=borders, axis=0)
    at = torch.arange(len(states), device=states.device)
    start, counted = (torch.repeat_interleave(x, ends - starts, output_size=len(states)) for x in (starts, first))
    weights = _weights(at - start, at >= counted, pooling)
    if pooling is Pooling.MAX:
        return torch.segment_reduce(wide.masked_fill(weights == 0, float("-inf")), "max", offsets=borders, axis=0)
    summed, total = (torch.segment_reduce(x, "sum", offsets=borders, axis=0) for x in (wide * weights, weights))
    return _divided(summed, total, pooling)


def pool_padded(
    states: torch.Tensor, mask: torch.Tensor, pooling: Pooling, skip: torch.Tensor | None = None
) -> torch.Tensor:
    """Pool right-padded states (B, T, D) under a mask (B, T) of ones and zeros; else as `pool_packed`."""
    import torch

    rows = torch.arange(len(states), device=states.device)
    first = torch.zeros_like(rows) if skip is None else skip
    if pooling in (Pooling.LAST, Pooling.CLS):
        return states[rows, mask.sum(1) - 1 if pooling is Pooling.LAST else first].float()
    at = torch.arange(states.shape[1], device=states.device)
    weights = _weights(at, (mask > 0) & (at >= first.unsqueeze(1)), pooling)
    if pooling is Pooling.MAX:
        return states.float().masked_fill(weights == 0, float("-inf")).amax(1)
    return _divided((states.float() * weights).sum(1), weights.sum(1), pooling)


def _weights(places: torch.Tensor, counted: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """float32 (…, 1): how much each token counts, by its place in its text (from 0) where that matters."""
    return (counted * (places + 1 if pooling is Pooling.WEIGHTED else 1)).float().unsqueeze(-1)


def _divided(summed: torch.Tensor, total: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    return summed / (total.sqrt() if pooling is Pooling.SQRT else total)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Rows scaled to length 1; a zero row stays zero."""
    import torch

    return torch.nn.functional.normalize(vectors, dim=-1, eps=1e-12)


def cut(vectors: Vectors, dimensions: int, *, normalize: bool = True) -> Vectors:
    """Keep the first `dimensions` of each vector (Matryoshka), then scale to length 1 again.

    Args:
        vectors: float32 (B, D).
        dimensions: 1 to D.
        normalize: scale the cut rows to length 1; a zero row stays zero.

    Returns:
        float32 (B, dimensions). Whether the model allows this size is for `EncoderInfo.space` to say.
    """
    if not 0 < dimensions <= vectors.shape[1]:
        raise ValueError(f"dimensions: expected 1 to {vectors.shape[1]}, got {dimensions}")
    if dimensions == vectors.shape[1]:
        return vectors
    part = vectors[:, :dimensions]
    if not normalize:
        return np.ascontiguousarray(part)
    lengths = np.linalg.norm(part, axis=1, keepdims=True)
    return np.asarray(part / np.maximum(lengths, 1e-12), dtype=np.float32)
