"""Notices: what this worker waits for or holds back, and what to check. A worker that waits in silence looks dead."""

from __future__ import annotations

import logging
import math
import threading
import time

from gristmill_schemas.redaction import redact

log = logging.getLogger(__name__)


class Notices:
    """One text per cause. Shared by all threads; shown by heartbeats and `gristmill doctor`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[object, tuple[str, float]] = {}

    def put(self, cause: object, text: str, for_s: float = math.inf) -> None:
        """Say it, until it is dropped, but no longer than `for_s`; logged where neither cause nor text is known."""
        text = redact(text)
        with self._lock:
            new = cause not in self._texts and all(text != known for known, _ in self._texts.values())
            self._texts[cause] = text, time.monotonic() + for_s
        if new:
            log.warning("waiting: %s", text)

    def drop(self, cause: object) -> None:
        """The cause is gone; nothing happens where there was none."""
        with self._lock:
            self._texts.pop(cause, None)

    def all(self) -> list[str]:
        """What is being waited for, the longest first; each text once."""
        now = time.monotonic()
        with self._lock:
            self._texts = {cause: said for cause, said in self._texts.items() if said[1] > now}
            return list(dict.fromkeys(text for text, _ in self._texts.values()))
