"""A worker's share: how many parcels of a model it has in hand, and whether the rest are for other workers.

A worker takes as many parcels as it has threads, which is right while many wait. But whoever asks first would take a
job's last parcels as well, all of them, and work alone for as long as they last. So it says with each claim what it has
already and how many workers there are, and the ledger lets nobody have more than an equal part (`Ledger.claim`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gristmill.ledger import EnoughHeld, Holding

#: Longest time for which a worker that has its share does not ask again: more may have come.
_REST_S = 1.0


class Share:
    """One per engine, shared by its task threads."""

    def __init__(self, workers: Callable[[], int]) -> None:
        """`workers`: how many serve the model, this one included."""
        self._workers = workers
        self._lock = threading.Lock()
        self._in_hand = 0
        self._until = 0.0

    @property
    def reached(self) -> bool:
        """Whether this worker has its share, as far as it knows."""
        return time.monotonic() < self._until

    @contextmanager
    def one_more(self) -> Iterator[Holding]:
        """Claim a parcel in the block and work on it; gives what there is beside it, parcels being claimed included."""
        with self._lock:
            beside, self._in_hand = self._in_hand, self._in_hand + 1
        until = 0.0
        try:
            yield Holding(beside, self._workers())
        except EnoughHeld:
            until = time.monotonic() + _REST_S
            raise
        finally:
            with self._lock:
                self._in_hand -= 1
                # Whoever ends one has room for another at once.
                self._until = until if self._in_hand else 0.0
