"""Finds the token budget at which throughput levels off, in a few seconds, and remembers it per machine and model.

Small budgets win on a CPU, whose caches hold the activations then; a GPU wants far larger ones. Neither is worth
guessing: batches of ordinary mixed lengths are timed at doubling budgets until two doublings in a row gain nothing,
memory runs out or the time is up. The smallest budget within 3 % of the best is taken, since small batches also answer
sooner.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from platformdirs import user_cache_path

from gristmill_schemas.errors import AcceleratorOutOfMemory
from gristmill_worker.encoder.base import Encoder, TokenizedText
from gristmill_worker.encoder.local.parity import PINNED_TEXTS

log = logging.getLogger(__name__)

#: Smallest and largest budget tried, by kind of device.
RANGES: Final = {"cpu": (512, 8_192), "mps": (2_048, 32_768), "cuda": (4_096, 131_072)}
#: Within this share of the best throughput, smaller is better.
GOOD_ENOUGH: Final = 0.97
#: Seconds that a measurement may take; one batch beyond it is the overrun.
TIME_LIMIT_S: Final = 4.0
#: Timed batches per budget; the fastest counts, since noise only ever adds time.
_REPEATS: Final = 3
#: Lengths of the texts in a timed batch: what a window of mixed text looks like once sorted and cut.
_LENGTHS: Final = (24, 40, 56, 56, 72, 120, 200)
#: Length of every text in a timed padded batch.
_PADDED_LENGTH: Final = 64
#: A changed procedure makes old measurements void.
_FORMAT: Final = 2


def calibrate(encoder: Encoder, device_type: str, *, clock: Callable[[], float] = time.perf_counter) -> int:
    """Measure the budget, in tokens as `BatchLimits` counts them.

    Args:
        encoder: loaded; its limits say only whether padding counts.
        device_type: `cpu`, `cuda` or `mps`.
        clock: seconds, for tests.
    """
    smallest, largest = RANGES.get(device_type, RANGES["cpu"])
    deadline = clock() + TIME_LIMIT_S
    rates: dict[int, float] = {}
    for budget in _doublings(smallest, largest):
        try:
            rates[budget] = _tokens_per_s(encoder, _batch(encoder, budget), clock, deadline)
        except AcceleratorOutOfMemory:
            break
        if clock() > deadline or _levelled_off(list(rates.values())):
            break
    # No room even for the smallest: from there on the batcher finds out what fits.
    return min((b for b, rate in rates.items() if rate >= GOOD_ENOUGH * max(rates.values())), default=smallest // 2)


def _doublings(first: int, last: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= 2


def _levelled_off(rates: list[float]) -> bool:
    return len(rates) > 2 and max(rates[-2:]) < max(rates[:-2])


def _tokens_per_s(encoder: Encoder, batch: list[TokenizedText], clock: Callable[[], float], deadline: float) -> float:
    """Throughput of the fastest of a few single launches, after one that warms caches and kernels up."""
    encoder.encode(batch)
    best = float("inf")
    for _ in range(_REPEATS):
        started = clock()
        encoder.encode(batch)
        best = min(best, clock() - started)
        if clock() > deadline:
            break
    return sum(item.n_tokens for item in batch) / max(best, 1e-9)


def _batch(encoder: Encoder, budget: int) -> list[TokenizedText]:
    """Texts of ordinary lengths that together fill the budget as the planner would; their tokens are the model's own."""
    ids = np.concatenate([item.ids for item in encoder.tokenize(list(PINNED_TEXTS))])
    longest = max(item.n_tokens for item in encoder.tokenize(["word " * max(_LENGTHS)]))
    # A padded batch comes out of the planner's sorting: its texts are about equally long.
    lengths = cycle([_PADDED_LENGTH] if encoder.limits.padded else _LENGTHS)
    batch: list[TokenizedText] = []
    room = budget
    for length in (min(each, longest) for each in islice(lengths, budget)):
        if length > room:
            break
        batch.append(TokenizedText("", np.resize(ids, length), length))
        room -= length
    return batch


def remembered(key: dict[str, Any], measure: Callable[[], int], folder: Path | None = None) -> int:
    """The budget measured for this key before, else `measure()`, which is then remembered.

    Args:
        key: everything that the budget depends on: machine, model, number format, versions.
        measure: gives the budget.
        folder: where measurements are kept; None means the user's cache folder.
    """
    name = hashlib.sha256(json.dumps({**key, "format": _FORMAT}, sort_keys=True).encode()).hexdigest()[:24]
    path = (folder or user_cache_path("gristmill", appauthor=False) / "budgets") / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        budget = json.loads(path.read_text(encoding="utf-8"))["budget_tokens"]
        if isinstance(budget, int) and budget > 0:
            return budget
    budget = measure()
    # A read-only or full disk costs a measurement at each start, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps({"budget_tokens": budget, **key}, indent=1), encoding="utf-8")
        scratch.replace(path)
    log.info("measured a budget of %d tokens per batch, remembered in %s", budget, path)
    return budget
