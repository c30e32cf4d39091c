"""What Qdrant holds and the roster does not know: the ledger was lost, or is restored from a copy older than Qdrant's.

The roster is what finds a missing document later, so a repair puts back on it whatever is there. It is told from what is
being deleted at this moment by a look *afterwards*: a deletion strikes its document off when it is done, so one that was
done before the entry has left a tombstone or no point, and any other takes the entry off itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qdrant_client import QdrantClient

from gristmill.ledger import Ledger
from gristmill.ledger.reading import Evidence
from gristmill.ledger.roster import Rostered
from gristmill.store.points import Seen, look_up
from gristmill_schemas import CollectionSpec, point_id


class Enlisting:
    """Finds what the roster lacks of one collection, and with `repair` puts it there."""

    def __init__(
        self,
        store: QdrantClient,
        ledger: Ledger,
        evidence: Evidence,
        spec: CollectionSpec,
        pending: Callable[[set[str]], set[str]],
        *,
        repair: bool,
    ) -> None:
        """`pending`: of some keys (point ids of chunk 0), those of documents and deletions that are on their way."""
        self._store = store
        self._ledger = ledger
        self._evidence = evidence
        self._spec = spec
        self._pending = pending
        self._repair = repair

    def look(self, page: Sequence[Seen]) -> int:
        """How many documents of a page of points the roster does not know, or knows an older version of."""
        if not self._evidence.keeps_roster:
            return 0
        held = [seen.system for seen in page if seen.system is not None and seen.system.chunk == 0]
        entries = [Rostered(each.id, each.tenant, each.version) for each in held]
        unknown = self._evidence.enlist(self._spec.key, entries, looking=not self._repair)
        return len(unknown) - self._take_back(unknown) if unknown else 0

    def _take_back(self, entries: Sequence[Rostered]) -> int:
        """Of those, how many were only in motion; they are taken off again."""
        keys = {point_id(each.id, each.tenant): each for each in entries}
        moving = self._pending(set(keys))
        tombs = self._ledger.tombstones(self._spec.key, list(keys))
        there = {key: seen.system for key, seen in look_up(self._store, self._spec, list(keys)).items()}
        lost = [
            each
            for key, each in keys.items()
            if key in moving or there.get(key) is None or tombs.get(key, -1) >= each.version
        ]
        if self._repair:
            for each in lost:
                self._evidence.withdraw(self._spec.key, each.id, each.tenant, each.version)
        return len(lost)
