"""Descriptions of collections, remembered between searches for a short while: a search should not cost a second request."""

from __future__ import annotations

import threading
import time

from gristmill.store.collections import Collections
from gristmill_schemas import CollectionSpec

#: A description is asked for again after this, whether or not a search has shown that it is out of date.
KEPT_S = 10.0


class Descriptions:
    """What names mean, as far as is known. Shared by all threads of a client."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, CollectionSpec]] = {}

    def remembered(self, name: str) -> CollectionSpec | None:
        """What was said of this name not long ago."""
        with self._lock:
            asked_at, spec = self._known.get(name, (0.0, None))
        return spec if time.monotonic() - asked_at < KEPT_S else None

    def ask(self, name: str) -> CollectionSpec:
        """What Qdrant says of it now. Raises as `Collections.get` does."""
        self.forget(name)
        spec = self._collections.get(name)
        with self._lock:
            self._known[name] = (time.monotonic(), spec)
        return spec

    def forget(self, name: str) -> None:
        """Forget what was said of this name, and of what means a collection of this name."""
        with self._lock:
            for each in [each for each, (_, spec) in self._known.items() if name in (each, spec.physical)]:
                del self._known[each]
