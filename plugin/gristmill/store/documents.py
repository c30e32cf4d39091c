"""Whole documents out of Qdrant: put together from their chunks, and counted.

The chunks of a document cover its text without a gap, overlaps included, so that together they give it back character by
character; the content tag of chunk 0 says whether they did.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from qdrant_client import QdrantClient, models

from gristmill.store.connection import store_errors
from gristmill.store.points import read_content, read_system, span_of
from gristmill_schemas import CollectionSpec, PointSystem, StoredDocument, point_id
from gristmill_schemas.document import canonical_json, hash_of, text_hash
from gristmill_schemas.point import CHUNK_PATH, etag_of

#: Points per request, texts included.
_PAGE = 256
#: A document that is being written while we look is looked at again, so often and after so long.
_LOOKS, _PAUSE_S = 3, 0.05


@dataclass(frozen=True, slots=True)
class _Chunk:
    system: PointSystem
    span: tuple[int, int]
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


def fetch(
    store: QdrantClient, spec: CollectionSpec, ids: Iterable[str], tenant: str | None
) -> dict[str, StoredDocument]:
    """The documents of these ids, by id; those that Qdrant does not hold are absent."""
    wanted = {point_id(each, tenant): each for each in ids}
    return {wanted[key]: document for key, document in fetch_by_point(store, spec, wanted).items()}


def fetch_by_point(store: QdrantClient, spec: CollectionSpec, keys: Iterable[str]) -> dict[str, StoredDocument]:
    """The documents that have their first chunks under these point ids, by those."""
    wanted = list(keys)
    found: dict[str, StoredDocument] = {}
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE_S)
        found |= _look(store, spec, wanted)
        # What is absent stays absent, and what is whole is done: only halves are worth another look.
        wanted = [key for key in wanted if key in found and not found[key].whole]
        if not wanted:
            break
    return found


def _look(store: QdrantClient, spec: CollectionSpec, keys: Sequence[str]) -> dict[str, StoredDocument]:
    firsts = _chunks(store, spec, keys)
    rest = {
        key: [point_id(c.system.id, c.system.tenant, n) for n in range(1, c.system.chunks)] for key, c in firsts.items()
    }
    others = _chunks(store, spec, [each for ids in rest.values() for each in ids])
    return {
        key: _assemble(spec, key, first, [others[each] for each in rest[key] if each in others])
        for key, first in firsts.items()
    }


def _chunks(store: QdrantClient, spec: CollectionSpec, ids: Sequence[str]) -> dict[str, _Chunk]:
    found: dict[str, _Chunk] = {}
    for start in range(0, len(ids), _PAGE):
        page = list(ids[start : start + _PAGE])
        with store_errors(spec.name):
            points = store.retrieve(spec.physical, ids=page, with_payload=True, with_vectors=False)
        for point in points:
            system = read_system(point.payload)
            if isinstance(system, PointSystem):  # anything else is another tool's
                payload = point.payload or {}
                found[str(point.id)] = _Chunk(system, span_of(spec, system.span, payload), *read_content(spec, payload))
    return found


def _assemble(spec: CollectionSpec, key: str, first: _Chunk, others: Sequence[_Chunk]) -> StoredDocument:
    system = first.system
    text = ""
    for chunk in sorted((first, *others), key=lambda each: each.span):
        start, end = chunk.span
        if chunk.system.etag == system.etag and start <= len(text) < end:
            text += chunk.text[len(text) - start :]
    return StoredDocument(
        id=system.id,
        text=text,
        metadata=first.metadata,
        tenant=system.tenant,
        version=system.version,
        chunks=system.chunks,
        whole=_is_of(spec, text, first.metadata, key, system),
    )


def _is_of(spec: CollectionSpec, text: str, metadata: dict[str, Any], key: str, system: PointSystem) -> bool:
    """Whether this is the text that was stored. Metadata may have been added since, and a repair takes the hash away."""
    if spec.chunking.text_hash(text, metadata) == system.text_hash:
        return True
    found = text_hash(text)
    return found == system.text_hash or etag_of(key, found, hash_of(canonical_json(metadata))) == system.etag


def beginnings(
    store: QdrantClient, spec: CollectionSpec, names: Iterable[tuple[str, str | None]], characters: int
) -> dict[tuple[str, str | None], str]:
    """How the texts of these documents begin, by id and tenant; those that Qdrant does not hold are absent."""
    firsts = {point_id(id, tenant): (id, tenant) for id, tenant in names}
    return {firsts[key]: chunk.text[:characters] for key, chunk in _chunks(store, spec, list(firsts)).items()}


def count(store: QdrantClient, collection: str, where: models.Filter | None) -> int:
    """Documents that match, counted exactly: by their chunk 0."""
    with store_errors(collection):
        return store.count(collection, count_filter=first_chunks(where), exact=True).count


def first_chunks(*conditions: models.Condition | None) -> models.Filter:
    """The first chunks of what matches: each document has one."""
    first = models.FieldCondition(key=CHUNK_PATH, match=models.MatchValue(value=0))
    return models.Filter(must=[first, *(each for each in conditions if each is not None)])
