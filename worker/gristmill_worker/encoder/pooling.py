"""From token states to one vector per text, in float32, and cutting vectors to a smaller size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gristmill_schemas import Pooling
from gristmill_worker.encoder.base import Vectors

if TYPE_CHECKING:
    import torch


def pool_packed(states: torch.Tensor, offsets: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool packed states.

    Args:
        states: (sum T, D), texts end to end, any float dtype.
        offsets: (B + 1,) integers, where each text starts and the last one ends.
        pooling: which states count.

    Returns:
        float32 (B, D), not normalised.
    """
    import torch

    if pooling is Pooling.CLS:
        return states[offsets[:-1].long()].float()
    if pooling is Pooling.LAST:
        return states[offsets[1:].long() - 1].float()
    # float32 before summing: in bfloat16 a sum over hundreds of tokens loses most of its digits.
    return torch.segment_reduce(states.float(), "mean", offsets=offsets.long(), axis=0)


def pool_padded(states: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool right-padded states (B, T, D) under a mask (B, T) of ones and zeros; float32 (B, D), not normalised."""
    import torch

    if pooling is Pooling.CLS:
        return states[:, 0].float()
    if pooling is Pooling.LAST:
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1].float()
    weights = mask.unsqueeze(-1).float()
    return (states.float() * weights).sum(1) / weights.sum(1)


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
