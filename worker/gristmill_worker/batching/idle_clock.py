"""Where the accelerator idles, and why: no work, waiting for tokens, waiting for a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """What task threads do when they are not waiting for vectors."""

    TOKENS = "tokens"
    STORE = "store"


#: Servers without which there is nothing to do: Qdrant, the model's own, Redis.
AWAY: Final = ("store", "model_server", "broker")


class IdleClock:
    """Seconds the model thread had nothing to do, by cause.

    An idle second belongs to `tokens` while any task thread tokenizes, else to `store` while any talks to Qdrant, else to
    the server that is away and waited for, else to `no_work`. Charged at every change of the stages, and when looked at.
    """

    def __init__(self, away: Callable[[], str | None] = lambda: None) -> None:
        """`away`: which of `AWAY` is waited for now."""
        self._away = away
        self._lock = threading.Lock()
        self._running = dict.fromkeys(Stage, 0)
        self._idle = False
        self._since = time.perf_counter()
        self._seconds = dict.fromkeys(("no_work", *Stage, *AWAY), 0.0)
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
            cause = next((stage.value for stage in Stage if self._running[stage]), None) or self._away() or "no_work"
            self._seconds[cause] += elapsed

    def busy_s(self) -> float:
        """Seconds that the model thread has had something to do, since the start."""
        with self._lock:
            self._charge()
            return self._busy_s

    def seconds(self) -> dict[str, float]:
        """Idle seconds by cause, and `busy`, since the start."""
        with self._lock:
            self._charge()
            return {**self._seconds, "busy": self._busy_s}
