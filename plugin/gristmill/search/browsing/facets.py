"""Facets: the values of a field, with how many documents have each. Qdrant counts them by an index over the field."""

from __future__ import annotations

import re

from qdrant_client import QdrantClient, models

from gristmill.store.connection import store_errors
from gristmill.store.documents import first_chunks
from gristmill_schemas import CollectionSpec, Facet
from gristmill_schemas.errors import InvalidInput, StoreRefused

#: Types of index that know all values of a field; the best for text first.
COUNTED_BY = ("keyword", "integer", "bool", "uuid")
_NO_INDEX = re.compile(r"No appropriate index for faceting")


def facets(
    store: QdrantClient, spec: CollectionSpec, path: str, where: models.Filter | None, limit: int
) -> list[Facet]:
    """The most frequent values first, equally frequent ones in their own order.

    Raises:
        InvalidInput: the field has no index that knows its values.
    """
    try:
        with store_errors(spec.name):
            found = store.facet(spec.name, key=path, facet_filter=first_chunks(where), limit=limit, exact=True)
    except StoreRefused as refused:
        if _NO_INDEX.search(str(refused)):
            raise _unindexed(spec, path) from refused
        raise
    counted = [Facet(value=hit.value, count=hit.count) for hit in found.hits]
    return sorted(counted, key=lambda each: (-each.count, str(each.value)))


def _unindexed(spec: CollectionSpec, path: str) -> InvalidInput:
    index = f"`gristmill collections index create {spec.name} {path}=keyword`"
    return InvalidInput(
        f"field: expected one with an index of type {', '.join(COUNTED_BY[:-1])} or {COUNTED_BY[-1]}, got {path!r}, which "
        f"has none in collection {spec.name!r}; {index} makes one, or client.indexes.create",
        field="field",
        collection=spec.name,
    )
