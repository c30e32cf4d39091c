"""A pause of this worker: what it needs is away for it, and perhaps not for others, so it pulls nothing for a while.

What is away for everybody rests in the ledger instead (`Ledger.rest`).
"""

from __future__ import annotations

import threading
import time

#: The first pause and the longest; each is twice as long as the one before.
_FIRST_S, _LONGEST_S = 1.0, 10.0


class Pause:
    """One per engine, shared by its task threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._length_s = 0.0
        self._until = 0.0

    @property
    def lasts(self) -> bool:
        """Whether no work should be pulled now."""
        return time.monotonic() < self._until

    def begin(self) -> float:
        """Pause, for longer each time; threads that fail together begin one pause. Returns its length in seconds."""
        with self._lock:
            if not self.lasts:
                self._length_s = min(max(2 * self._length_s, _FIRST_S), _LONGEST_S)
                self._until = time.monotonic() + self._length_s
            return self._length_s

    def over(self) -> None:
        """Something got through; the next pause is a short one again."""
        with self._lock:
            self._length_s = self._until = 0.0
