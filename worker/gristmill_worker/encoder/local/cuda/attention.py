"""CUDA: attention over many texts of unlike length in one kernel, flash-attn's where installed, else torch's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kernel:
    """Attention over many texts in one call."""

    name: str
    #: (q, k, v, offsets, longest, scaling, causal, window to both sides) to (sum T, heads, size).
    run: Callable[..., torch.Tensor]


@lru_cache(maxsize=1)
def varlen_kernel() -> Kernel:
    """flash-attn where installed, else torch's own. Decided once per process: an import that fails is looked for again and
    again otherwise, at every layer of every batch."""
    try:
        from flash_attn import flash_attn_varlen_func as flash
    except ImportError:
        return Kernel("torch flash attention", _torch_flash)
    except Exception as error:  # noqa: BLE001  # built for another torch, it fails in ways of its own
        log.warning("flash-attn is installed and cannot be loaded, so torch's own attention runs: %s", error)
        return Kernel("torch flash attention", _torch_flash)

    def run(
        q: Any, k: Any, v: Any, offsets: Any, longest: int, scaling: Any, causal: bool, sides: tuple[int, int]
    ) -> Any:
        return flash(
            q, k, v, offsets, offsets, longest, longest, softmax_scale=scaling, causal=causal, window_size=sides
        )

    return Kernel("flash-attn", run)


def _torch_flash(
    q: Any, k: Any, v: Any, offsets: Any, longest: int, scaling: Any, causal: bool, sides: tuple[int, int]
) -> Any:
    """The operator beneath `torch.nn.attention.varlen.varlen_attn`, which has changed from one torch to the next: none in
    2.9, no window and no scale in 2.10, fewer key heads than query heads only from 2.12 on. The operator has done all of
    it in each of them. Called directly it also spares every layer a wrapper and a tensor of zeros."""
    back, ahead = sides
    how = {"scale": scaling, "window_size_left": back, "window_size_right": ahead}
    texts = (offsets, offsets, longest, longest)
    return torch.ops.aten._flash_attention_forward(q, k, v, *texts, 0.0, causal and back < 0, False, **how)[0]


def varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    offsets: torch.Tensor,
    longest: int,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    """Attention inside each text of a packed row, one kernel for all. The host names the longest: asking would wait.

    Args:
        query: (1, heads, sum T, size).
        key: (1, key heads, sum T, size), as `value`.
        value: see there.
        offsets: int32 (B + 1,) on the card, where each text starts and the last one ends.
        longest: tokens of the longest text.
        scaling: factor on the scores; None is 1 / sqrt(size).
        causal: a token sees none after it.
        window: tokens that one sees, itself included; to both sides if not causal.

    Returns:
        (1, sum T, heads, size).
    """
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return varlen_rows(varlen_kernel(), q, k, v, offsets, longest, scaling, causal, window).unsqueeze(0)


def varlen_rows(
    kernel: Kernel,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    offsets: torch.Tensor,
    longest: int,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    """As `varlen`, of rows as a kernel wants them: (sum T, heads, size) and (sum T, key heads, size), to the former."""
    back = -1 if window is None else window - 1
    return kernel.run(q, k, v, offsets, longest, scaling, causal, (back, 0 if causal else back))
