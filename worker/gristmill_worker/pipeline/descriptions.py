"""What collections' names mean, read from Qdrant a few times a second instead of for each parcel."""

from __future__ import annotations

from gristmill.ledger.clock import LedgerClock
from gristmill.store.collections import Collections
from gristmill_schemas import CollectionSpec
from gristmill_worker.metering.instruments import Counts

#: How long a description is good for: no longer than a parcel's own way takes with any real model, between whose first
#: step and last a name may change its meaning all the same.
GOOD_FOR_S = 0.25
#: Most names that are kept.
_MOST = 10_000


class Descriptions:
    """One per pipeline, shared by its task threads.

    Two questions to Qdrant, and reading the answers, cost as much as writing ten documents.
    """

    def __init__(self, collections: Collections, clock: LedgerClock, lookups: Counts | None = None) -> None:
        """`lookups`: counts hits and misses."""
        self._lookups = lookups or Counts("hit", "miss")
        self._collections = collections
        self._clock = clock
        self._known: dict[str, tuple[float, CollectionSpec]] = {}

    def get(self, name: str, opened_at: float) -> CollectionSpec:
        """What a collection is: read just now, or a moment ago, but after this job was opened.

        So whoever changes a collection and then enqueues finds the change applied.

        Args:
            name: as it was asked for.
            opened_at: of the parcel's job, seconds since 1970 by the ledger's clock.

        Raises:
            CollectionNotFound, InvalidInput, NewerFormat, StoreUnavailable: see `Collections.get`.
        """
        now = self._clock.now()
        read_at, spec = self._known.get(name, (0.0, None))
        # As long a moment after the opening, since the clock is right to some milliseconds only.
        if spec is not None and opened_at + GOOD_FOR_S < read_at <= now < read_at + GOOD_FOR_S:
            self._lookups.add("hit")
            return spec
        self._lookups.add("miss")
        self._known.pop(name, None)
        spec = self._collections.get(name)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[name] = now, spec
        return spec

    def forget(self, name: str) -> None:
        """It is not as it was told: ask again."""
        self._known.pop(name, None)
