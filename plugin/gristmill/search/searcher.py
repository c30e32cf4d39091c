"""Search: instruction and question become a query vector, Qdrant's points become hits."""

from __future__ import annotations

from typing import Any

from qdrant_client import QdrantClient, models

from gristmill.search.filters import Where, compile_filter
from gristmill.search.query_vectors import QueryEncoder
from gristmill.store.collections import Collections
from gristmill.store.connection import store_errors
from gristmill_schemas import CollectionSpec, PointSystem, SearchHit
from gristmill_schemas.errors import InvalidInput, SpaceMismatch
from gristmill_schemas.limits import MAX_INSTRUCTION_CHARS, MAX_QUERY_BYTES
from gristmill_schemas.point import ID_PATH
from gristmill_schemas.validation import SYSTEM_KEY, clean_text


class Searcher:
    """Searches collections; remembers their descriptions between searches and checks them against every hit."""

    def __init__(self, store: QdrantClient, collections: Collections, queries: QueryEncoder) -> None:
        self._store = store
        self._collections = collections
        self._queries = queries
        self._specs: dict[str, CollectionSpec] = {}

    def search(
        self,
        collection: str,
        query: str,
        *,
        instruction: str | None = None,
        where: Where | None = None,
        tenant: str | None = None,
        limit: int = 10,
        offset: int = 0,
        score_threshold: float | None = None,
        group_by_document: bool = False,
    ) -> list[SearchHit]:
        """See `Client.search`."""
        _check("query", query, MAX_QUERY_BYTES)
        if limit < 1 or offset < 0:
            raise InvalidInput(f"limit and offset: expected at least 1 and 0, got {limit} and {offset}")
        if group_by_document and offset:
            raise InvalidInput(f"offset: grouped searches start at the best document; expected 0, got {offset}")
        conditions = compile_filter(where, tenant)
        spec = self._spec(collection)
        label, text = resolve_instruction(spec, instruction)
        vector = self._queries.encode(spec.space, [spec.space.templates.for_query(query, text)])[0]
        arguments: dict[str, Any] = {
            "query": vector.tolist(),
            "query_filter": conditions,
            "limit": limit,
            "with_payload": True,
            "score_threshold": score_threshold,
        }
        with store_errors(collection):
            if group_by_document:
                groups = self._store.query_points_groups(collection, group_by=ID_PATH, group_size=1, **arguments).groups
                points = [point for group in groups for point in group.hits]
            else:
                points = self._store.query_points(collection, offset=offset, **arguments).points
        return [self._hit(spec, point, label) for point in points]

    def _spec(self, collection: str) -> CollectionSpec:
        if collection not in self._specs:
            self._specs[collection] = self._collections.get(collection)
        return self._specs[collection]

    def _hit(self, spec: CollectionSpec, point: models.ScoredPoint, instruction: str | None) -> SearchHit:
        payload = dict(point.payload or {})
        system = PointSystem.model_validate(payload.pop(SYSTEM_KEY))
        if system.space != spec.space.fingerprint:
            # The collection was replaced behind our back by one of another model: this search compared nonsense.
            del self._specs[spec.name]
            raise SpaceMismatch(
                f"collection {spec.name!r} now holds vectors of another space ({system.space}, not "
                f"{spec.space.fingerprint}); it was replaced while this client was open: search again"
            )
        return SearchHit(
            id=system.id,
            score=point.score,
            text=payload.pop(spec.text_key),
            metadata=payload,
            tenant=system.tenant,
            version=system.version,
            chunk=system.chunk,
            chunks=system.chunks,
            span=system.span,
            instruction=instruction,
            point_id=str(point.id),
        )


def resolve_instruction(spec: CollectionSpec, instruction: str | None) -> tuple[str | None, str | None]:
    """An instruction's label (as hits report it) and its text.

    `name` means the newest registered version of that name, `name@2` exactly that one; anything else is free text.
    """
    if instruction is None:
        return None, None
    _check("instruction", instruction, MAX_INSTRUCTION_CHARS * 4)
    name, _, version = instruction.partition("@")
    versions = {item.version: item for item in spec.instructions if item.name == name}
    if not versions:
        return instruction, instruction
    if not version:
        newest = versions[max(versions)]
        return newest.label, newest.text
    if not version.isdigit() or int(version) not in versions:
        known = ", ".join(versions[number].label for number in sorted(versions))
        raise InvalidInput(f"instruction: collection {spec.name!r} has {known}, got {instruction!r}")
    return instruction, versions[int(version)].text


def _check(field: str, value: str, max_bytes: int) -> None:
    try:
        text = clean_text(value)
    except ValueError as error:
        raise InvalidInput(f"{field}: {error}") from None
    if not text.strip():
        raise InvalidInput(f"{field}: expected text, got an empty or blank string")
    if (size := len(text.encode())) > max_bytes:
        raise InvalidInput(f"{field}: expected at most {max_bytes} bytes, got {size}")
