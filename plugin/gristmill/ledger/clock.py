"""The ledger's clock, read without asking the ledger each time.

Machines disagree about the time, by seconds or by hours. What one writes down and another reads is therefore told by the
ledger's clock alone; this process's own steady one only bridges the seconds between two questions.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from gristmill_schemas.errors import GristmillError

#: How long an answer is good for: clocks drift by some 50 microseconds in a second.
_GOOD_FOR_S = 10.0


class LedgerClock:
    """Seconds since 1970, by the ledger. Shared by all threads."""

    def __init__(self, ask: Callable[[], float]) -> None:
        """`ask`: `Ledger.now`."""
        self._ask = ask
        self._lock = threading.Lock()
        self._offset_s = 0.0
        self._asked_at = -math.inf

    def now(self) -> float:
        """The time, to some milliseconds. While the ledger is away, by the last answer; its error where there was none."""
        if time.monotonic() - self._asked_at > _GOOD_FOR_S:
            try:
                return self.exactly()
            except GristmillError:
                if math.isinf(self._asked_at):
                    raise
        return self._offset_s + time.monotonic()

    def exactly(self) -> float:
        """The time, asked for now."""
        before = time.monotonic()
        told = self._ask()
        after = time.monotonic()
        with self._lock:
            self._offset_s, self._asked_at = told - (before + after) / 2, after
        return told
