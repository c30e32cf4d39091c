"""Erasing a tenant from a collection, so that nothing is left of it and nothing of it comes back.

    parcels         the tenant's items are taken out, and the parcels from whoever works on them
    intents         become retractions: what their claims still write is taken back (`ledger/traces.py`)
    workers         are waited for, a while: each that was writing answers by taking back what it wrote
    points, letters, roster, tombstones, jobs       are erased, in this order
    a last look     says what is left

Nothing has to stop meanwhile. Passes are made until one finds nothing, since letters may have been replayed in between.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator

from qdrant_client import QdrantClient, models

from gristmill.ledger import Ledger
from gristmill.ledger.reading import Evidence
from gristmill.ledger.traces import Whose
from gristmill.store.connection import store_errors
from gristmill.store.copies import ordering
from gristmill.store.tenancy import of_tenant
from gristmill_schemas import CollectionSpec, DeadLetter, Erased, Erasure
from gristmill_schemas.audit import PLACES
from gristmill_schemas.errors import BrokerUnavailable

#: Of everything; each but the first erases what others have done meanwhile.
_PASSES = 10
_LETTERS = 64
_LOOK_S = 0.05


class Eraser:
    """One tenant of one collection."""

    def __init__(
        self,
        store: QdrantClient,
        ledger: Ledger,
        evidence: Evidence,
        publish: Callable[[str], None],
        spec: CollectionSpec,
        names: frozenset[str],
        tenant: str,
    ) -> None:
        """`names`: all that mean the collection; `publish`: tells the workers of a model that a parcel waits."""
        self._store = store
        self._ledger = ledger
        self._evidence = evidence
        self._dispatch = publish
        self._spec = spec
        self._tenant = tenant
        self._names = names
        self._whose = Whose(tenant, spec.key, names)
        self._traces = evidence.traces(self._whose)

    def look(self) -> Erasure:
        """What there is now; nothing is changed."""
        return self._told(Counter(), ())

    def run(self, wait_s: float) -> Generator[float, None, Erasure]:
        """Erase it; yields how long to pause while workers are waited for."""
        until = time.monotonic() + wait_s
        erased: Counter[str] = Counter()
        unanswered: set[str] = set()
        for _ in range(_PASSES):
            before = erased.total()
            erased["pending"] += self._traces.expel(self._publish)
            made = self._traces.retract()
            erased["intents"] += len(made)
            unanswered |= set(made)
            while (unanswered := self._still(unanswered)) and time.monotonic() < until:
                yield _LOOK_S
            erased.update(self._erase())
            if erased.total() == before:
                break
        return self._told(erased, self._still(unanswered))

    def _publish(self, model_digest: str) -> None:
        with contextlib.suppress(BrokerUnavailable):  # the reconciler sees that it waits
            self._dispatch(model_digest)

    def _still(self, ids: set[str]) -> set[str]:
        return ids & {each.id for each in self._ledger.retractions()} if ids else ids

    def _erase(self) -> dict[str, int]:
        return {
            "points": self._delete_points(),
            "dead_letters": self._drop_letters(),
            "roster": self._traces.strike(),
            "tombstones": self._traces.exhume(),
            "jobs": self._traces.disown(),
        }

    def _told(self, erased: Counter[str], unanswered: set[str] | tuple[()]) -> Erasure:
        left = self._left()
        places = {
            place: Erased(found=erased[place] + left[place], erased=erased[place], left=left[place]) for place in PLACES
        }
        return Erasure(
            collection=self._spec.name,
            tenant=self._tenant,
            looked_at=self._ledger.now(),
            unanswered=len(unanswered),
            **places,
        )

    def _left(self) -> dict[str, int]:
        return {
            "pending": self._traces.pending(),
            "intents": self._traces.intents(),
            "points": self._count_points(),
            "dead_letters": sum(1 for _ in self._letters()),
            "roster": self._traces.rostered(),
            "tombstones": self._traces.buried(),
            "jobs": self._traces.jobs(),
        }

    # points

    def _count_points(self) -> int:
        with store_errors(self._spec.name):
            return self._store.count(self._spec.physical, of_tenant(self._tenant), exact=True).count

    def _delete_points(self) -> int:
        found = self._count_points()
        if found:
            chosen = models.FilterSelector(filter=of_tenant(self._tenant))
            with store_errors(self._spec.name):
                self._store.delete(self._spec.physical, chosen, wait=True, ordering=ordering(self._spec))
        return found

    # letters

    def _letters(self) -> Iterator[DeadLetter]:
        """Those of the collection under any of its names, each once."""
        seen: set[str] = set()
        for name in (self._spec.key, *sorted(self._names)):
            for letter in self._evidence.letters(name):
                if letter.identity[1] == self._tenant and letter.id not in seen:
                    seen.add(letter.id)
                    yield letter

    def _drop_letters(self) -> int:
        ids = [letter.id for letter in self._letters()]
        return sum(self._ledger.drop_dead(ids[start : start + _LETTERS]) for start in range(0, len(ids), _LETTERS))
