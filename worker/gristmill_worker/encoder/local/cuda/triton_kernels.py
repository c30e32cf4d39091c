"""CUDA: the kernels of `kernels`, in Triton. Arithmetic is float32 whatever the rows are.

A kernel's arguments carry no types but Triton's own: it reads annotations, and knows no others.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gristmill_worker.encoder.local.cuda.kernels import Heads, Norms, TorchKernels

#: Numbers that one program of the gate computes.
_GATE_BLOCK = 1_024


@triton.jit  # type: ignore[untyped-decorator]
def _rotate(  # type: ignore[no-untyped-def]
    rows,
    cos,
    sin,
    query_norm,
    key_norm,
    stride,
    eps,
    QUERIES: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    ROOM: tl.constexpr,
    NORMED: tl.constexpr,
):
    """One token: all its query and key heads, in two halves (ROOM, HALF), ROOM the next power of two from HEADS."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, ROOM)[:, None]
    lane = tl.arange(0, HALF)[None, :]
    there = head < HEADS
    at = rows + token * stride + head * (2 * HALF) + lane
    first = tl.load(at, mask=there, other=0.0).to(tl.float32)
    second = tl.load(at + HALF, mask=there, other=0.0).to(tl.float32)
    if NORMED:
        squares = tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)
        scale = tl.rsqrt(squares / (2 * HALF) + eps)[:, None]
        query = head < QUERIES
        first_norm = tl.where(query, tl.load(query_norm + lane), tl.load(key_norm + lane)).to(tl.float32)
        second_norm = tl.where(query, tl.load(query_norm + HALF + lane), tl.load(key_norm + HALF + lane)).to(tl.float32)
        first = first * scale * first_norm
        second = second * scale * second_norm
    turn = token * (2 * HALF) + lane
    first_cos, first_sin = tl.load(cos + turn).to(tl.float32), tl.load(sin + turn).to(tl.float32)
    second_cos, second_sin = tl.load(cos + turn + HALF).to(tl.float32), tl.load(sin + turn + HALF).to(tl.float32)
    tl.store(at, first * first_cos - second * first_sin, mask=there)
    tl.store(at + HALF, second * second_cos + first * second_sin, mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _gate(rows, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """A stretch of one token's row."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = column < width
    at = rows + token * 2 * width + column
    gate, up = tl.load(at, mask=there).to(tl.float32), tl.load(at + width, mask=there).to(tl.float32)
    tl.store(at, gate * tl.sigmoid(gate) * up, mask=there)


class TritonKernels(TorchKernels):
    """See `Kernels`."""

    name = "Triton"

    def rotate_(
        self, rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: Heads, norms: Norms | None
    ) -> None:
        """See `Kernels.rotate_`. Heads whose size is no power of two are left to torch."""
        if heads.size != triton.next_power_of_2(heads.size):
            super().rotate_(rows, cos, sin, heads, norms)
            return
        count = heads.queries + heads.keys
        room = triton.next_power_of_2(count)
        # Triton starts kernels on the current card, whichever the rows are on.
        with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]  # torch's stub
            _rotate[(len(rows),)](
                rows,
                cos,
                sin,
                cos if norms is None else norms.query,
                cos if norms is None else norms.key,
                rows.stride(0),
                0.0 if norms is None else norms.eps,
                QUERIES=heads.queries,
                HEADS=count,
                HALF=heads.size // 2,
                ROOM=room,
                NORMED=norms is not None,
                num_warps=4 if room * heads.size <= 4_096 else 8,
            )

    def gate_(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Kernels.gate_`."""
        tokens, width = rows.shape[0], rows.shape[1] // 2
        with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]  # torch's stub
            _gate[(tokens, triton.cdiv(width, _GATE_BLOCK))](rows, width, BLOCK=_GATE_BLOCK)
        return rows[:, :width]
