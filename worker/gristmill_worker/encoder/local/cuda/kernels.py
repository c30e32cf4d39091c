"""CUDA: what a decoder does between its products, one pass over the row each instead of a dozen.

Bytes per token and layer of Qwen3-0.6B in bfloat16, of which a card moves so many a second: norm and rotation of queries and
keys 12,288 instead of some 140,000 as transformers has them, the gate 18,432 instead of 30,720. The kernels are Triton's,
which torch's CUDA builds bring along; where they cannot be used (see `chosen`), torch's own operations do the same in more
passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812  # the name that the whole field uses


@dataclass(frozen=True, slots=True)
class Heads:
    """How queries, keys and values lie side by side in a row, in this order."""

    #: Query heads, and key heads; there are as many of values as of keys.
    queries: int
    keys: int
    #: Numbers of each.
    size: int


@dataclass(frozen=True, slots=True)
class Norms:
    """RMS norms of queries and keys before they are rotated."""

    #: (size,) each.
    query: torch.Tensor
    key: torch.Tensor
    eps: float


class Kernels(Protocol):
    """See `kernels`."""

    name: str

    def rotate_(
        self, rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: Heads, norms: Norms | None
    ) -> None:
        """Norm queries and keys, where there are norms, and rotate them by their positions, in place.

        Args:
            rows: (T, (queries + 2 keys) * size), its rows contiguous.
            cos: (T, size), contiguous, as `sin`.
            sin: see there.
            heads: how a row is made up.
            norms: what is done before.
        """

    def gate_(self, rows: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up, (T, W), of contiguous rows (T, 2 W) that hold gate and up side by side: it takes gate's place."""


class TorchKernels:
    """By torch's own operations: runs everywhere."""

    name = "torch"

    def rotate_(
        self, rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: Heads, norms: Norms | None
    ) -> None:
        """See `Kernels.rotate_`."""
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        split, size = heads.queries * heads.size, heads.size
        for part, which in ((rows[:, :split], "query"), (rows[:, split : split + heads.keys * size], "key")):
            x = part.view(len(rows), -1, size)
            plain = x if norms is None else F.rms_norm(x, (size,), getattr(norms, which), norms.eps)
            first, second = plain.chunk(2, -1)
            x.copy_(torch.cat((-second, first), -1).mul_(sin).addcmul_(plain, cos))

    def gate_(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Kernels.gate_`."""
        gate, up = rows.chunk(2, -1)
        return F.silu(gate, inplace=True).mul_(up)
