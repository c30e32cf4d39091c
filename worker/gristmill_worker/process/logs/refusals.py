"""Refusals in the log: a flood of them is a few lines, not a line each."""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

#: Between two lines about one place.
_EVERY_S = 5.0
#: Characters of a reason that are logged.
_SHOWN_CHARS = 300


class RefusalLog:
    """What one place refuses: the first at once, then how many more there were. Shared by all threads."""

    def __init__(self, place: str, every_s: float = _EVERY_S, did: str = "refused") -> None:
        """`place` begins each line, such as `query lane`; `did` says what it does with them."""
        self._place, self._did = place, did
        self._every_s = every_s
        self._lock = threading.Lock()
        self._count = 0
        self._reason = ""
        self._next_at = 0.0

    def add(self, reason: str) -> None:
        """One was refused."""
        with self._lock:
            self._count, self._reason = self._count + 1, reason
        self.tell()

    def tell(self) -> None:
        """Log what has been refused since the last line, once its time has come."""
        with self._lock:
            if not self._count or time.monotonic() < self._next_at:
                return
            count, reason = self._count, self._reason
            self._count, self._next_at = 0, time.monotonic() + self._every_s
        log.warning("%s: %s %d; the last of them: %s", self._place, self._did, count, reason[:_SHOWN_CHARS])
