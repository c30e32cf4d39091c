"""`client.collections`: what applications may ask of collections and do with them; `Client.create_collection` makes one."""

from __future__ import annotations

import builtins

from gristmill.habits import Group, answers_habits
from gristmill.store.collections import Collections
from gristmill_schemas import CollectionSpec


@answers_habits
class CollectionGroup(Group):
    """`client.collections`."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

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

    def delete(self, name: str) -> None:
        """Delete a Gristmill collection with all its points, and what the ledger remembers of it.

        Raises:
            CollectionNotFound: there is none of this name.
            InvalidInput: it was not made by Gristmill, or the name is an alias.
        """
        self._collections.delete(name)
