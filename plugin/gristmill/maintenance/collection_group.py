"""`client.collections`: what applications may ask of collections and do with them; `Client.create_collection` makes one."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Generator

from gristmill.habits import Group, answers_habits
from gristmill.maintenance.bulk_loads import BulkDesk, paused
from gristmill.store.collections import Collections
from gristmill_schemas import CollectionSpec, IndexStatus


@answers_habits
class CollectionGroup(Group):
    """`client.collections`."""

    def __init__(self, collections: Collections, bulk: BulkDesk) -> None:
        self._collections = collections
        self._bulk = bulk

    def list(self) -> builtins.list[CollectionSpec]:
        """Every Gristmill collection's description, by name.

        Others of Qdrant's are passed over; a newer Gristmill's with a line in the log.
        """
        return self._collections.list()

    def get(self, name: str) -> CollectionSpec:
        """The collection's description, straight from Qdrant; `name` may be an alias.

        Raises:
            CollectionNotFound: there is none of this name.
            NewerFormat: a newer Gristmill made it.
            InvalidInput: it was not made by Gristmill.
        """
        return self._collections.get(name)

    def count(self, name: str) -> int:
        """Points in the collection, one per chunk, counted exactly; `client.count` counts documents."""
        return self._collections.count(name)

    def index_status(self, name: str) -> IndexStatus:
        """How far the collection's index is, and whether it is put off for a bulk load.

        Raises:
            CollectionNotFound: there is none of this name.
            InvalidInput: it was not made by Gristmill.
        """
        return self._bulk.status(self._collections.get(name))[0]

    def wait_for_index(
        self, name: str, *, timeout_s: float | None = None, progress: Callable[[IndexStatus], None] | None = None
    ) -> IndexStatus:
        """Wait until Qdrant has built the collection's index; bulk loads that go on are waited for, too.

        Args:
            name: of the collection.
            timeout_s: longest wait; None waits as long as it takes.
            progress: called with every status that is looked at.

        Raises:
            WaitTimeout: the time is over; Qdrant goes on.
            StoreRefused: Qdrant cannot build it, and says why.
            CollectionNotFound, InvalidInput, StoreUnavailable.
        """
        return paused(self._looks(name, timeout_s, progress))

    def _looks(
        self, name: str, timeout_s: float | None, progress: Callable[[IndexStatus], None] | None
    ) -> Generator[float, None, IndexStatus]:
        return (yield from self._bulk.looks(self._collections.get(name), timeout_s, progress))

    def delete(self, name: str) -> None:
        """Delete a Gristmill collection with all its points, and what the ledger remembers of it.

        Raises:
            CollectionNotFound: there is none of this name.
            InvalidInput: it was not made by Gristmill, or the name is an alias.
        """
        self._collections.delete(name)
