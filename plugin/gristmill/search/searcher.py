"""Search: instruction and question become a query vector, Qdrant's points become hits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient, models

from gristmill.search.descriptions import Descriptions
from gristmill.search.filters import Where, compile_filter
from gristmill.search.query_vectors import QueryEncoder
from gristmill.store.collections import Collections
from gristmill.store.connection import store_errors
from gristmill.store.points import Foreign, read_content, read_system
from gristmill_schemas import CollectionSpec, PointSystem, SearchHit
from gristmill_schemas.errors import GristmillError, InvalidInput, SpaceMismatch
from gristmill_schemas.limits import MAX_INSTRUCTION_CHARS, MAX_QUERY_BYTES
from gristmill_schemas.point import ETAG_PATH, VERSION_PATH
from gristmill_schemas.validation import clean_text

log = logging.getLogger(__name__)

_Points = Sequence[models.ScoredPoint]


class Searcher:
    """Searches collections; remembers their descriptions for a while and checks them against every hit."""

    def __init__(self, store: QdrantClient, collections: Collections, queries: QueryEncoder) -> None:
        self._store = store
        self._queries = queries
        self._descriptions = Descriptions(collections)
        #: Keys of the collections that hold points which are not ours; searches there ask for ours alone.
        self._mixed: set[str] = set()

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
        wanted = _Wanted(
            query, instruction, compile_filter(where, tenant), limit, offset, score_threshold, group_by_document
        )
        return self._healed(collection, wanted)

    def _healed(self, collection: str, wanted: _Wanted) -> list[SearchHit]:
        """Search by what is remembered of the collection; where that finds nothing or fails, by what is true now.

        A collection may be made anew and an alias may move while a client is open.
        """
        remembered = self._descriptions.remembered(collection)
        if remembered is None:
            return self._search(self._descriptions.ask(collection), wanted, certain=True)
        failed: GristmillError | None = None
        try:
            if hits := self._search(remembered, wanted):
                return hits
        except GristmillError as error:
            failed = error
        now = self._descriptions.ask(collection)
        if now != remembered or isinstance(failed, OutOfDate):
            return self._search(now, wanted, certain=True)
        if failed is not None:
            raise failed
        return []

    def _search(self, spec: CollectionSpec, wanted: _Wanted, *, certain: bool = False) -> list[SearchHit]:
        label, text = resolve_instruction(spec, wanted.instruction)
        vector = self._queries.encode(spec.space, [spec.space.templates.for_query(wanted.query, text)])[0]
        points = self._query(spec, wanted, vector)
        if spec.key not in self._mixed and (foreign := _first_foreign(points)):
            self._mixed.add(spec.key)
            log.warning("collection %r holds points that no search shows; one of them: %s", spec.name, foreign.problem)
            points = self._query(spec, wanted, vector)
        return _one_per_document(_hits(spec, points, label, certain), wanted.grouped)

    def _query(self, spec: CollectionSpec, wanted: _Wanted, vector: npt.NDArray[np.float32]) -> _Points:
        arguments: dict[str, Any] = {
            "query": vector.tolist(),
            "query_filter": _ours(wanted.conditions) if spec.key in self._mixed else wanted.conditions,
            "limit": wanted.limit,
            "with_payload": True,
            "score_threshold": wanted.score_threshold,
        }
        # By the name that was asked for: where an alias has moved, the answer is the new collection's.
        with store_errors(spec.name):
            if not wanted.grouped:
                return self._store.query_points(spec.name, offset=wanted.offset, **arguments).points
            # By etag, which is the document's own and not, like its id, one that other tenants may have as well.
            found = self._store.query_points_groups(spec.name, group_by=ETAG_PATH, group_size=1, **arguments)
        return [point for group in found.groups for point in group.hits]


class OutOfDate(SpaceMismatch):
    """What was found is not of the collection that was remembered."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One search, checked."""

    query: str
    instruction: str | None
    conditions: models.Filter | None
    limit: int
    offset: int
    score_threshold: float | None
    grouped: bool


def _ours(conditions: models.Filter | None) -> models.Filter:
    """Only points with a record of ours."""
    foreign = models.IsEmptyCondition(is_empty=models.PayloadField(key=VERSION_PATH))
    return models.Filter(must=conditions, must_not=[foreign])


def _first_foreign(points: _Points) -> Foreign | None:
    return next((read for point in points if isinstance(read := read_system(point.payload), Foreign)), None)


def _hits(spec: CollectionSpec, points: _Points, instruction: str | None, certain: bool) -> list[SearchHit]:
    """The points as hits, without those that are not ours.

    Args:
        spec: the collection, as it is remembered.
        points: what Qdrant has found.
        instruction: label of the query's instruction.
        certain: `spec` has just been asked for, so a point of another space is a stray one.

    Raises:
        OutOfDate: a point is not of this collection, or none is.
    """
    read = [(point, system) for point in points if isinstance(system := read_system(point.payload), PointSystem)]
    fitting = [(point, system) for point, system in read if system.space == spec.space.fingerprint]
    if (read and not fitting) or (not certain and (len(fitting) < len(read) or not _texts_there(spec, read))):
        raise OutOfDate(
            f"collection {spec.name!r}: its points are not of its space {spec.space.fingerprint}; `gristmill audit` "
            "shows which are"
        )
    return [_hit(spec, point, system, instruction) for point, system in fitting]


def _texts_there(spec: CollectionSpec, read: Sequence[tuple[models.ScoredPoint, PointSystem]]) -> bool:
    return all(spec.text_key in (point.payload or {}) for point, _ in read)


def _hit(spec: CollectionSpec, point: models.ScoredPoint, system: PointSystem, instruction: str | None) -> SearchHit:
    text, metadata = read_content(spec, point.payload or {})
    return SearchHit(
        id=system.id,
        score=point.score,
        text=text,
        metadata=metadata,
        tenant=system.tenant,
        version=system.version,
        chunk=system.chunk,
        chunks=system.chunks,
        span=system.span,
        instruction=instruction,
        point_id=str(point.id),
    )


def _one_per_document(hits: list[SearchHit], grouped: bool) -> list[SearchHit]:
    """The best of each document, where that is asked for: while one is replaced, it has chunks of two contents."""
    if not grouped:
        return hits
    best: dict[tuple[str | None, str], SearchHit] = {}
    for hit in hits:
        best.setdefault((hit.tenant, hit.id), hit)
    return list(best.values())


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
