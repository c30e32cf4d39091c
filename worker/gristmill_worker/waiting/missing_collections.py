"""A collection that the store does not have: was it deleted, or is this the wrong store, or a wiped one?

Deleted on purpose is what `collections.delete` has recorded, or what several looks over some seconds do not find while
other collections of this installation are there. Whoever deletes a collection means its documents; whoever restores a
backup into an empty Qdrant, or mistypes an address, does not.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from gristmill.ledger import Ledger
from gristmill.store.collections import Collections
from gristmill_worker.waiting.notices import Notices, Waits

#: Looks, and seconds between the first and the last, before a collection counts as deleted.
_LOOKS, _SECONDS = 3, 3.0
#: Looks closer together than this are one.
_SPACING_S = 0.5


@dataclass(slots=True)
class _Missed:
    first: float
    last: float
    looks: int = 1


class MissingCollections:
    """One per process, shared by all task threads."""

    def __init__(self, collections: Collections, ledger: Ledger, notices: Notices) -> None:
        self._collections = collections
        self._ledger = ledger
        self._notices = notices
        self._lock = threading.Lock()
        self._missed: dict[str, _Missed] = {}

    def found(self, name: str) -> None:
        """It is there (again)."""
        with self._lock:
            known = self._missed.pop(name, None)
        if known is not None:
            self._notices.drop(("missing", name))

    def deleted(self, name: str, reason: str) -> bool:
        """Whether a collection that was not found just now was deleted on purpose; False as long as that is not sure.

        Raises:
            StoreUnavailable, BrokerUnavailable: one of them went away meanwhile, so nothing is sure.
        """
        if self._ledger.was_deleted(name):
            return True
        if self._missed_for_good(name) and self._others_are_there(name):
            self.found(name)
            return True
        self._notices.put(
            ("missing", name),
            Waits.COLLECTION,
            f"{reason} Its documents wait. If Qdrant's address is wrong, set GRISTMILL_QDRANT_URL; if Qdrant was wiped, "
            "restore it or create the collection again; if the collection is not wanted any more: "
            f"`gristmill collections delete {name}`",
        )
        return False

    def _missed_for_good(self, name: str) -> bool:
        now = time.monotonic()
        with self._lock:
            seen = self._missed.setdefault(name, _Missed(now, now))
            if now - seen.last >= _SPACING_S:
                seen.last, seen.looks = now, seen.looks + 1
            return seen.looks >= _LOOKS and seen.last - seen.first >= _SECONDS

    def _others_are_there(self, name: str) -> bool:
        """Whether this store holds other collections that this installation knows."""
        return bool((self._ledger.known_collections() - {name}) & set(self._collections.names()))
