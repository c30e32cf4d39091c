"""Search: instruction and question become a query vector, Qdrant's points become hits."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Unpack

from qdrant_client import QdrantClient, models

from gristmill.arguments import identifier, one_or_many, text
from gristmill.search.descriptions import Descriptions
from gristmill.search.instructions import Applied, Cautions, resolve_instruction
from gristmill.search.options import How, SearchOptions, checked
from gristmill.search.query_vectors import QueryEncoder
from gristmill.search.unindexed import Unindexed
from gristmill.search.unmatched import Unmatched
from gristmill.store.collections import Collections
from gristmill.store.connection import store_errors
from gristmill.store.points import Foreign, read_content, read_point, span_of
from gristmill.store.tenancy import require_tenant
from gristmill_schemas import CollectionSpec, PointSystem, SearchHit
from gristmill_schemas.errors import GristmillError, InvalidInput, SpaceMismatch
from gristmill_schemas.limits import MAX_QUERY_BYTES, MAX_QUERY_TEXTS
from gristmill_schemas.point import ETAG_PATH, VERSION_PATH

log = logging.getLogger(__name__)

_Points = Sequence[models.ScoredPoint]


class Searcher:
    """Searches collections; remembers their descriptions for a while and checks them against every hit."""

    def __init__(
        self,
        store: QdrantClient,
        collections: Collections,
        queries: QueryEncoder,
        unmatched: Unmatched,
        unindexed: Unindexed,
        cautions: Cautions,
    ) -> None:
        self._store = store
        self._unmatched = unmatched
        self._unindexed = unindexed
        self._cautions = cautions
        self._queries = queries
        self._descriptions = Descriptions(collections)
        #: Keys of the collections that hold points which are not ours; searches there ask for ours alone.
        self._mixed: set[str] = set()
        #: Bulk loads that were told of.
        self._loads: set[tuple[str, float]] = set()

    def search(self, collection: str, query: str, **options: Unpack[SearchOptions]) -> list[SearchHit]:
        """See `Client.search`."""
        if not isinstance(query, str):
            hint = "; `search_many` takes a list of queries" if isinstance(query, Iterable) else ""
            raise InvalidInput(f"query: expected one text, got {type(query).__name__}{hint}", field="query")
        text("query", query, MAX_QUERY_BYTES)
        return self.search_many(collection, [query], **options)[0]

    def search_many(
        self, collection: str, queries: Iterable[str], **options: Unpack[SearchOptions]
    ) -> list[list[SearchHit]]:
        """See `Client.search_many`."""
        name = identifier("collection", collection)
        many = one_or_many("queries", queries, str, "a query or an iterable of queries")
        asked = [text(f"queries[{position}]", each, MAX_QUERY_BYTES) for position, each in enumerate(many)]
        how = checked(**options)
        parts = [asked[start : start + MAX_QUERY_TEXTS] for start in range(0, len(asked), MAX_QUERY_TEXTS)]
        with self._unindexed.watch(name, how.conditions):
            found = [hits for part in parts for hits in self._healed(name, part, how)]
        if how.conditions and not all(found):
            self._unmatched.tell(name, how.where, how.tenant)
        return found

    def description(self, collection: str) -> CollectionSpec:
        """What is known of a collection, asked for where nothing is."""
        return self._descriptions.remembered(collection) or self._descriptions.ask(collection)

    def forget(self, collection: str) -> None:
        """Forget what is remembered of a collection: it has been changed."""
        self._descriptions.forget(collection)

    def _healed(self, collection: str, queries: list[str], how: How) -> list[list[SearchHit]]:
        """Search by what is remembered of the collection; where that finds nothing or fails, by what is true now.

        A collection may be made anew and an alias may move while a client is open.
        """
        remembered = self._descriptions.remembered(collection)
        if remembered is None:
            return self._search(self._descriptions.ask(collection), queries, how, certain=True)
        found: list[list[SearchHit]] = []
        failed: GristmillError | None = None
        try:
            found = self._search(remembered, queries, how)
            if all(found):
                return found
        except GristmillError as error:
            failed = error
        now = self._descriptions.ask(collection)
        if now != remembered or isinstance(failed, OutOfDate):
            return self._search(now, queries, how, certain=True)
        if failed is not None:
            raise failed
        return found

    def _tell_of_bulk_load(self, spec: CollectionSpec) -> None:
        if spec.bulk_since is not None and (load := (spec.key, spec.bulk_since)) not in self._loads:
            self._loads.add(load)
            log.warning("collection %r is in a bulk load: searches are right, and slow until it ends", spec.name)

    def _search(
        self, spec: CollectionSpec, queries: list[str], how: How, *, certain: bool = False
    ) -> list[list[SearchHit]]:
        self._tell_of_bulk_load(spec)
        require_tenant(spec, how.tenant)
        how.ranking.require_keywords(spec)
        applied = resolve_instruction(spec, how.instruction)
        vectors = self._encode(spec, queries, applied) if how.ranking.needs_vectors else [[] for _ in queries]
        asked = list(zip(queries, vectors, strict=True))
        points = self._query(spec, how, asked)
        if spec.key not in self._mixed and (foreign := _first_foreign(chain.from_iterable(points))):
            self._mixed.add(spec.key)
            log.warning("collection %r holds points that no search shows; one of them: %s", spec.name, foreign.problem)
            points = self._query(spec, how, asked)
        told: dict[str, Any] = {"mode": how.ranking.mode, "score_kind": how.ranking.score_kind(spec)}
        if how.ranking.needs_vectors:
            told |= {"instruction": applied.label, "instruction_text": applied.text}
            told |= {"template": spec.space.templates.of_query(applied.text)}
        return [_one_per_document(_hits(spec, each, told, certain), how.grouped) for each in points]

    def _encode(self, spec: CollectionSpec, queries: list[str], applied: Applied) -> list[list[float]]:
        templates = spec.space.templates
        self._cautions.tell(f"collection {spec.name!r}", spec.space, applied, templates.of_query(applied.text))
        model_input = [templates.for_query(query, applied.text) for query in queries]
        vectors: list[list[float]] = self._queries.encode(spec.space, model_input).tolist()
        return vectors

    def _query(self, spec: CollectionSpec, how: How, asked: list[tuple[str, list[float]]]) -> list[_Points]:
        conditions = _ours(how.conditions) if spec.key in self._mixed else how.conditions
        shared: dict[str, Any] = {"limit": how.limit, "score_threshold": how.score_threshold, "with_payload": True}
        # By the name that was asked for: where an alias has moved, the answer is the new collection's.
        with store_errors(spec.name):
            if not how.grouped:
                shared |= {"filter": conditions, "offset": how.offset}
                requests = [models.QueryRequest(**how.ranking.asked(*each, conditions), **shared) for each in asked]
                return [answer.points for answer in self._store.query_batch_points(spec.name, requests)]
            # By etag, which is the document's own and not, like its id, one that other tenants may have as well. Qdrant
            # takes no batch of grouped searches.
            shared |= {"query_filter": conditions, "group_by": ETAG_PATH, "group_size": 1}
            groups = [
                self._store.query_points_groups(spec.name, **how.ranking.asked(*each, conditions), **shared)
                for each in asked
            ]
        return [[point for group in found.groups for point in group.hits] for found in groups]


class OutOfDate(SpaceMismatch):
    """What was found is not of the collection that was remembered."""


def _ours(conditions: models.Filter | None) -> models.Filter:
    """Only points with a record of ours."""
    foreign = models.IsEmptyCondition(is_empty=models.PayloadField(key=VERSION_PATH))
    return models.Filter(must=conditions, must_not=[foreign])


def _first_foreign(points: Iterable[models.ScoredPoint]) -> Foreign | None:
    return next((read for point in points if isinstance(read := read_point(point), Foreign)), None)


def _hits(spec: CollectionSpec, points: _Points, applied: Mapping[str, Any], certain: bool) -> list[SearchHit]:
    """The points as hits, without those that are not ours.

    Args:
        spec: the collection, as it is remembered.
        points: what Qdrant has found.
        applied: what the hits say of how they were found.
        certain: `spec` has just been asked for, so a point of another space is a stray one.

    Raises:
        OutOfDate: a point is not of this collection, or none is.
    """
    read = [(point, system) for point in points if isinstance(system := read_point(point), PointSystem)]
    fitting = [(point, system) for point, system in read if system.space == spec.space.fingerprint]
    if (read and not fitting) or (not certain and (len(fitting) < len(read) or not _texts_there(spec, read))):
        raise OutOfDate(
            f"collection {spec.name!r}: its points are not of its space {spec.space.fingerprint}; `gristmill audit` "
            "shows which are",
            collection=spec.name,
        )
    return [_hit(spec, point, system, applied) for point, system in fitting]


def _texts_there(spec: CollectionSpec, read: Sequence[tuple[models.ScoredPoint, PointSystem]]) -> bool:
    return all(spec.text_key in (point.payload or {}) for point, _ in read)


def _hit(spec: CollectionSpec, point: models.ScoredPoint, system: PointSystem, applied: Mapping[str, Any]) -> SearchHit:
    payload = point.payload or {}
    content, metadata = read_content(spec, payload)
    return SearchHit(
        id=system.id,
        score=point.score,
        text=content,
        metadata=metadata,
        tenant=system.tenant,
        version=system.version,
        chunk=system.chunk,
        chunks=system.chunks,
        span=span_of(spec, system, payload),
        point_id=str(point.id),
        **applied,
    )


def _one_per_document(hits: list[SearchHit], grouped: bool) -> list[SearchHit]:
    """The best of each document, where that is asked for: while one is replaced, it has chunks of two contents."""
    if not grouped:
        return hits
    best: dict[tuple[str | None, str], SearchHit] = {}
    for hit in hits:
        best.setdefault((hit.tenant, hit.id), hit)
    return list(best.values())
