"""What became of the queries that a lane took, and how long they took: for heartbeats, `gristmill doctor` and `/metrics`."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Literal, get_args

from gristmill_worker.metering.instruments import Histogram

Fate = Literal["answered", "expired", "refused", "given_back"]


class QueryCounts:
    """Since the worker's start; shared by all threads of a lane."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Fate] = Counter()
        #: From when a query was queued until it was taken, and from then to its numbers, seconds.
        self.waits, self.answers = Histogram(), Histogram()

    def add(self, fate: Fate) -> int:
        """Count one; gives how many there are now."""
        with self._lock:
            self._counts[fate] += 1
            return self._counts[fate]

    def all(self) -> dict[Fate, int]:
        """Each of them, 0 included."""
        with self._lock:
            return {fate: self._counts[fate] for fate in get_args(Fate)}
