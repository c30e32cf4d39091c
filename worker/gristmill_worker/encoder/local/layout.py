"""Where texts lie when they are laid end to end in one row: known to the packed pass and to its attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from gristmill_worker.encoder.local.staging import to_device

#: Name under which models select the attention of texts in one row.
PACKED: Final = "gristmill_packed"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each text lies in the packed row."""

    #: Tokens of each text, in row order.
    lengths: tuple[int, ...]
    #: Runs of neighbours with equal length: (first token, texts, tokens of each). One attention call each on CPU.
    runs: tuple[tuple[int, int, int], ...]
    #: int32 (B + 1,), where each text starts and the last one ends; on the model's device.
    offsets: torch.Tensor
    #: Longest text.
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Layout:
        """Lay texts of these lengths end to end, in this order."""
        runs, first = [], 0
        for length, same in groupby(lengths):
            count = sum(1 for _ in same)
            runs.append((first, count, length))
            first += count * length
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        return cls(tuple(lengths), tuple(runs), to_device(offsets, device), max(lengths))


def positions(lengths: Sequence[int], first: int = 0) -> npt.NDArray[np.int64]:
    """Position ids (sum T,) that restart at `first` with each text."""
    return np.concatenate([np.arange(first, first + length, dtype=np.int64) for length in lengths])


def seen(
    module: torch.nn.Module, packed: Layout, sliding_window: int | None, is_causal: bool | None = None
) -> tuple[bool, int | None]:
    """Whether a token sees none after it, and how many it sees at most where that is fewer than its text has."""
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    return causal, sliding_window if sliding_window is not None and sliding_window < packed.longest else None
