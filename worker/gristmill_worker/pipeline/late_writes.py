"""Late writes: what a worker wrote after it had lost its parcel, and died before it could clean up after itself.

A worker frozen beyond its lease (a SIGSTOP, a suspended machine, a request lost in a network) may go on at any time. Where
its document was deleted meanwhile, nothing in Qdrant stands in the way of the write. It cleans up after itself, unless it
dies in between: then its intent is left in the ledger, and this duty does it, with the same rules
(`docs/explanation/fence.md`).

Cost per look: one read in the ledger, and per thousand documents of claims left behind one read of their tombstones and one
filtered scroll in Qdrant.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from qdrant_client import QdrantClient, models

from gristmill.ledger import Ledger
from gristmill.store.collections import Collections
from gristmill.store.connection import store_errors
from gristmill.store.points import PAGE, change, scroll
from gristmill.store.tenancy import retracting
from gristmill_schemas import CollectionSpec, Intent, PointSystem, Retraction, point_id
from gristmill_schemas.errors import CollectionNotFound
from gristmill_worker.pipeline.sink import deleting_leftovers, deleting_through, documents

log = logging.getLogger(__name__)

#: How often to look: a deleted document that was revived is searchable for no longer than this and one look.
PERIOD_S = 20.0
#: Claims looked after per look, the newest first.
_CLAIMS = 1000


class LateWrites:
    """A duty, at every worker; a turn in the ledger makes one of them act."""

    def __init__(
        self, ledger: Ledger, store: QdrantClient, collections: Collections, holder: str, period_s: float = PERIOD_S
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._collections = collections
        self._holder = holder
        self._period_s = period_s

    def __call__(self) -> None:
        """One look, if it is this worker's turn."""
        if self._ledger.take_turn("late writes", self._holder, lease_s=1.5 * self._period_s):
            left: dict[tuple[str, str], list[Intent]] = {}
            for intent in self._ledger.unfulfilled(_CLAIMS):
                left.setdefault((intent.collection, intent.key), []).append(intent)
            for (collection, key), intents in left.items():
                self._look_after(collection, key, intents)
            for retraction in self._ledger.retractions():
                self._take_back(retraction)

    def _look_after(self, collection: str, key: str, intents: Sequence[Intent]) -> None:
        try:
            spec = self._collections.get(collection)
        except CollectionNotFound:
            spec = None
        if spec is None or spec.key != key:
            for intent in intents:  # deleted, with all that was written to it
                self._ledger.fulfil(intent.token)
            return
        names = list({name for intent in intents for name in intent.documents})
        for start in range(0, len(names), PAGE):
            self._undo(spec, names[start : start + PAGE])

    def _take_back(self, retraction: Retraction) -> None:
        """Kept for as long as a tombstone: nobody knows when a frozen worker goes on."""
        try:
            spec = self._collections.get(retraction.collection)
        except CollectionNotFound:
            spec = None
        if spec is None or spec.key != retraction.key:
            self._ledger.lift(retraction.id)
            return
        with store_errors(spec.name):
            change(self._store, spec, retracting(retraction))

    def _undo(self, spec: CollectionSpec, names: Sequence[tuple[str, str | None]]) -> None:
        tombs = self._ledger.tombstones(spec.key, [point_id(*name) for name in names])
        held = self._held(spec, names)
        revived = [
            (chunks[0].id, chunks[0].tenant, tombs[key])
            for key, chunks in held.items()
            if any(each.version <= tombs.get(key, -1) for each in chunks)
        ]
        winners = [
            first
            for first, *rest in held.values()
            if first.chunk == 0 and any(each.etag != first.etag and each.version <= first.version for each in rest)
        ]
        if operations := [*deleting_through(revived), *deleting_leftovers(winners)]:
            log.warning("undoing late writes in %r: %d deleted, %d newer", spec.name, len(revived), len(winners))
            with store_errors(spec.name):
                change(self._store, spec, operations)

    def _held(self, spec: CollectionSpec, names: Sequence[tuple[str, str | None]]) -> dict[str, list[PointSystem]]:
        """What is there of these documents, by the point id of chunk 0; each in the order of its chunks."""
        wanted = {point_id(*name) for name in names}
        where = models.Filter(must=[documents([document_id for document_id, _ in names])])
        found: dict[str, list[PointSystem]] = {}
        for page in scroll(self._store, spec.physical, where):
            for system in (seen.system for seen in page if seen.system is not None):
                if (key := point_id(system.id, system.tenant)) in wanted:
                    found.setdefault(key, []).append(system)
        return {key: sorted(chunks, key=lambda each: each.chunk) for key, chunks in found.items()}
