"""Where the accelerator idles, and why: no work, waiting for tokens, waiting for the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class Stage(StrEnum):
    """What task threads do when they are not waiting for vectors."""

    TOKENS = "tokens"
    STORE = "store"


class IdleClock:
    """Seconds the model thread had nothing to do, by cause.

    An idle second belongs to `tokens` while any task thread tokenizes, else to `store` while any talks to Qdrant, else to
    `no_work`. Charged at every change of either, so no sampling is involved.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = dict.fromkeys(Stage, 0)
        self._idle = False
        self._since = time.perf_counter()
        self._seconds = {"no_work": 0.0, "tokens": 0.0, "store": 0.0}
        self._busy_s = 0.0

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """This thread is in `stage` while the block runs."""
        with self._lock:
            self._charge()
            self._running[stage] += 1
        try:
            yield
        finally:
            with self._lock:
                self._charge()
                self._running[stage] -= 1

    def set_idle(self, idle: bool) -> None:
        """The model thread starts or stops waiting for work."""
        with self._lock:
            self._charge()
            self._idle = idle

    def _charge(self) -> None:
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        if not self._idle:
            self._busy_s += elapsed
        else:
            cause = next((stage.value for stage in Stage if self._running[stage]), "no_work")
            self._seconds[cause] += elapsed

    def seconds(self) -> dict[str, float]:
        """Idle seconds by cause, and `busy`, since the start."""
        with self._lock:
            self._charge()
            return {**self._seconds, "busy": self._busy_s}
