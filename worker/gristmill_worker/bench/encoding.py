"""An encoder alone, fed as a worker feeds it: what the rest of the pipeline can reach at most."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.idle_clock import IdleClock, Stage
from gristmill_worker.batching.submission import Row, stacked
from gristmill_worker.encoder.base import Encoder

#: Texts tokenized per call and sorted together, ahead of the model.
WINDOW_TEXTS: Final = 1_024


@dataclass(frozen=True, slots=True)
class Encoding:
    """What it took to encode some texts."""

    seconds: float
    #: That the model waited for tokens.
    waited_s: float
    tokens: int
    #: See `Batcher.launch_ms`.
    launch_ms: dict[str, float] | None


def timed_encoding(encoder: Encoder, texts: Sequence[str]) -> Encoding:
    """Encode all as a worker does, tokenizing ahead on another thread and through the batcher."""
    idle = IdleClock()
    batcher = Batcher(encoder, idle)

    def hand_over(window: Sequence[str]) -> Future[list[Row]]:
        with idle.stage(Stage.TOKENS):
            return batcher.submit(encoder.tokenize(window))

    try:
        started = time.perf_counter()
        with ThreadPoolExecutor(1, thread_name_prefix="tokenize") as ahead:
            windows = [texts[at : at + WINDOW_TEXTS] for at in range(0, len(texts), WINDOW_TEXTS)]
            for future in [ahead.submit(hand_over, window) for window in windows]:
                stacked(future.result().result(), encoder.info.dimensions)
        seconds = time.perf_counter() - started
        return Encoding(seconds, idle.seconds()["tokens"], batcher.tokens_done, batcher.launch_ms)
    finally:
        batcher.close()
