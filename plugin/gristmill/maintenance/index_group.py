"""`client.indexes`: indexes over fields of the metadata."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from qdrant_client import QdrantClient

from gristmill.arguments import flag, identifier, one_or_many
from gristmill.habits import Group, answers_habits
from gristmill.store.collections import Collections
from gristmill.store.indexes import Asked, asked_indexes, create_indexes, drop_index, field_path, list_indexes
from gristmill_schemas import CollectionSpec, FieldIndex
from gristmill_schemas.errors import InvalidInput

log = logging.getLogger(__name__)


@answers_habits
class IndexGroup(Group):
    """`client.indexes`: by these, filters (`where=`) find documents without reading all of them."""

    def __init__(self, store: QdrantClient, collections: Collections, *, local: bool) -> None:
        self._store = store
        self._collections = collections
        self._local = local

    def create(self, collection: str, indexes: Mapping[str, Any], *, wait: bool = True) -> builtins.list[FieldIndex]:
        """Make indexes over fields of the metadata; one that is there already stays as it is.

        Args:
            collection: an existing collection.
            indexes: `{"lang": "keyword", "year": "integer", "author.name": "keyword"}`. Types are keyword, integer, float,
                bool, datetime, uuid, geo and text; for options there are `{"type": "text", "tokenizer": "multilingual"}` and
                qdrant's own models, such as `TextIndexParams`.
            wait: until they are built.

        Returns:
            All indexes of the collection's metadata.

        Raises:
            CollectionConflict: a field has an index of another type, or with other options.
            InvalidInput: an argument is wrong; the message names the field.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        asked = asked_indexes(indexes)
        spec = self._collections.get(identifier("collection", collection))
        self._create(spec, asked, wait=flag("wait", wait))
        return self.list(spec.name)

    def _create(self, spec: CollectionSpec, asked: Asked, *, wait: bool = True) -> None:
        if not self._local:
            create_indexes(self._store, spec, asked, wait=wait)
        elif asked:
            log.warning("Qdrant's local mode has no indexes: filters in %r read every document, as ever", spec.name)

    def list(self, collection: str) -> builtins.list[FieldIndex]:
        """Indexes over the metadata, by field. Local mode has none."""
        spec = self._collections.get(identifier("collection", collection))
        return [] if self._local else list_indexes(self._store, spec)

    def get(self, collection: str, field: str) -> FieldIndex:
        """One index. Raises InvalidInput where the field has none; the message names those that have."""
        path, there = field_path("field", field), self.list(collection)
        for each in there:
            if each.field == path:
                return each
        names = ", ".join(each.field for each in there) or "none"
        raise InvalidInput(
            f"field: {path!r} has no index in collection {collection!r}; those that have: {names}",
            field="field",
            collection=collection,
        )

    def drop(self, collection: str, fields: str | Iterable[str]) -> int:
        """Drop the indexes of one field or many; filters on them then read every document again.

        Returns:
            How many there were.

        Raises:
            InvalidInput: an argument is wrong.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        many = one_or_many("fields", fields, str, "a field or an iterable of fields")
        paths = [field_path(f"fields[{position}]", each) for position, each in enumerate(many)]
        spec = self._collections.get(identifier("collection", collection))
        there = {each.field for each in self.list(spec.name)}
        dropped = [path for path in dict.fromkeys(paths) if path in there]
        for path in dropped:
            drop_index(self._store, spec, path)
        return len(dropped)
