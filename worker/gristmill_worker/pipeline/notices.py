"""Notices: what this worker waits for or holds back, and what to check. A worker that waits in silence looks dead."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)


class Notices:
    """One text per cause. Shared by all threads; shown by heartbeats and `gristmill doctor`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[object, str] = {}

    def put(self, cause: object, text: str) -> None:
        """Say it; logged where this cause is new."""
        with self._lock:
            new = cause not in self._texts
            self._texts[cause] = text
        if new:
            log.warning("waiting: %s", text)

    def drop(self, cause: object) -> None:
        """The cause is gone; nothing happens where there was none."""
        with self._lock:
            self._texts.pop(cause, None)

    def all(self) -> list[str]:
        """What is being waited for, the longest first; each text once."""
        with self._lock:
            return list(dict.fromkeys(self._texts.values()))
