"""Search: instruction and question become a query vector, Qdrant's points become hits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, Protocol, Unpack

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient, models

from gristmill.arguments import identifier, one_or_many, text
from gristmill.search.descriptions import Descriptions
from gristmill.search.examples import Example, Examples, asked_examples, asked_vector, vectors_of
from gristmill.search.explaining import Stopwatch, explained
from gristmill.search.hits import OutOfDate, by_document, first_foreign, hits_of
from gristmill.search.instructions import Applied, Cautions
from gristmill.search.lenses import find_lens, query_instruction
from gristmill.search.options import How, RecommendOptions, SearchOptions, SimilarOptions, checked
from gristmill.search.query_vectors import QueryEncoder
from gristmill.search.refining.passages import with_passages
from gristmill.search.reranking import RELEVANCE, Reranking
from gristmill.search.retrieval import Asked, Retrieval
from gristmill.search.unindexed import Unindexed
from gristmill.search.unmatched import Unmatched
from gristmill.store.collections import Collections
from gristmill.store.connection import is_server
from gristmill.store.found_points import FoundPoint
from gristmill.store.keywords import Words, keywords_of, words_sought
from gristmill.store.tenancy import require_tenant
from gristmill_schemas import CollectionSpec, Hits, SearchMode, Strategy
from gristmill_schemas.errors import GristmillError, InvalidInput
from gristmill_schemas.limits import MAX_QUERY_BYTES, MAX_QUERY_TEXTS
from gristmill_schemas.point import VERSION_PATH

log = logging.getLogger(__name__)

Vector = npt.NDArray[np.float32]
_NO_VECTOR: Vector = np.empty(0, np.float32)


class _Reranked(NamedTuple):
    #: The candidates of each query in, the hits that are shown out.
    order: Callable[[Sequence[Hits]], list[Hits]]
    #: What explanations say of it.
    told: Mapping[str, Any]


class _Look(Protocol):
    def __call__(self, spec: CollectionSpec, how: How, *, certain: bool) -> list[Hits]:
        """Lists of hits, by a description of the collection which is, or is not, certain to be the newest."""


class Searcher:
    """Searches collections; remembers their descriptions for a while and checks them against every hit."""

    def __init__(
        self,
        store: QdrantClient,
        collections: Collections,
        queries: QueryEncoder,
        reranking: Reranking,
        unmatched: Unmatched,
        unindexed: Unindexed,
        cautions: Cautions,
    ) -> None:
        self._store = store
        self._unmatched = unmatched
        self._unindexed = unindexed
        self._cautions = cautions
        self._queries = queries
        self._reranking = reranking
        self._descriptions = Descriptions(collections)
        #: Keys of the collections that hold points which are not ours; searches there ask for ours alone.
        self._mixed: set[str] = set()
        #: Bulk loads that were told of.
        self._loads: set[tuple[str, float]] = set()

    def search(self, collection: str, query: str, **options: Unpack[SearchOptions]) -> Hits:
        """See `Client.search`."""
        if not isinstance(query, str):
            hint = "; `search_many` takes a list of queries" if isinstance(query, Iterable) else ""
            raise InvalidInput(f"query: expected one text, got {type(query).__name__}{hint}", field="query")
        asked = text("query", query, MAX_QUERY_BYTES)
        return self._watched(collection, [partial(self._by_queries, [asked])], checked(**options))[0]

    def search_many(self, collection: str, queries: Iterable[str], **options: Unpack[SearchOptions]) -> list[Hits]:
        """See `Client.search_many`."""
        many = one_or_many("queries", queries, str, "a query or an iterable of queries")
        asked = [text(f"queries[{position}]", each, MAX_QUERY_BYTES) for position, each in enumerate(many)]
        how = checked(**options)
        parts = [asked[start : start + MAX_QUERY_TEXTS] for start in range(0, len(asked), MAX_QUERY_TEXTS)]
        return self._watched(collection, [partial(self._by_queries, part) for part in parts], how)

    def description(self, collection: str) -> CollectionSpec:
        """What is known of a collection, asked for where nothing is."""
        return self._descriptions.remembered(collection) or self._descriptions.ask(collection)

    def forget(self, collection: str) -> None:
        """Forget what is remembered of a collection: it has been changed."""
        self._descriptions.forget(collection)

    def similar(self, collection: str, document_id: str, **options: Unpack[SimilarOptions]) -> Hits:
        """See `Client.similar`."""
        one = Example("document_id", id=identifier("document_id", document_id))
        return self._alike(collection, Examples((one,)), checked(**options))

    def search_by_vector(self, collection: str, vector: object, **options: Unpack[SimilarOptions]) -> Hits:
        """See `Client.search_by_vector`."""
        return self._alike(collection, asked_vector(vector), checked(**options))

    def recommend(
        self,
        collection: str,
        positive: object,
        negative: object,
        strategy: Strategy | str,
        **options: Unpack[RecommendOptions],
    ) -> Hits:
        """See `Client.recommend`."""
        return self._alike(collection, asked_examples(positive, negative, strategy), checked(**options))

    def _alike(self, collection: str, examples: Examples, how: How) -> Hits:
        return self._watched(collection, [partial(self._by_examples, examples)], how)[0]

    def _watched(self, collection: str, looks: Sequence[_Look], how: How) -> list[Hits]:
        """Look for each, and see to filters that have no index or find nothing."""
        name = identifier("collection", collection)
        if not is_server(self._store):  # which looks at everything anyway, and warns of whoever says how
            how = replace(how, shape=replace(how.shape, exact=False, ef=None))
        with self._unindexed.watch(name, how.conditions):
            found = [hits for look in looks for hits in self._healed(name, look, how)]
        if how.conditions and not all(found):
            self._unmatched.tell(name, how.where, how.tenant)
        return found

    def _healed(self, collection: str, look: _Look, how: How) -> list[Hits]:
        """Look by what is remembered of the collection; where that finds nothing or fails, by what is true now.

        A collection may be made anew and an alias may move while a client is open.
        """
        remembered = self._descriptions.remembered(collection)
        if remembered is None:
            return look(self._descriptions.ask(collection), how, certain=True)
        found: list[Hits] = []
        failed: GristmillError | None = None
        try:
            found = look(remembered, how, certain=False)
            if all(found):
                return found
        except GristmillError as error:
            failed = error
        now = self._descriptions.ask(collection)
        if now != remembered or isinstance(failed, OutOfDate):
            return look(now, how, certain=True)
        if failed is not None:
            raise failed
        return found

    def _tell_of_bulk_load(self, spec: CollectionSpec) -> None:
        if spec.bulk_since is not None and (load := (spec.key, spec.bulk_since)) not in self._loads:
            self._loads.add(load)
            log.warning("collection %r is in a bulk load: searches are right, and slow until it ends", spec.name)

    def _by_queries(self, queries: list[str], spec: CollectionSpec, how: How, *, certain: bool) -> list[Hits]:
        self._tell_of_bulk_load(spec)
        require_tenant(spec, how.tenant)
        how.ranking.require_keywords(spec)
        reranker = None if how.rerank is None else self._reranking.require(how.rerank.model)
        applied = query_instruction(spec, find_lens(spec, how.lens), how.instruction)
        watch = Stopwatch()
        vectors = self._encode(spec, queries, applied) if how.ranking.needs_vectors else [_NO_VECTOR] * len(queries)
        watch.lap("encode")
        words_of: Words = keywords_of if is_server(self._store) else words_sought
        asked = [
            partial(how.ranking.asked, query, vector, how.lens, params=how.shape.params, words_of=words_of)
            for query, vector in zip(queries, vectors, strict=True)
        ]
        told: dict[str, Any] = {"mode": how.ranking.mode, "score_kind": how.ranking.score_kind(spec), "lens": how.lens}
        if how.ranking.needs_vectors:
            told |= _told_of(spec, applied)
        reranked = None
        if how.rerank is not None and reranker is not None:
            order = partial(self._reranking.hits, reranker, queries, how.rerank, applied)
            reranked = _Reranked(order, {"score_kind": RELEVANCE, "reranker": reranker.model})
        return self._found(spec, how, asked, told, certain, watch, reranked)

    def _by_examples(self, examples: Examples, spec: CollectionSpec, how: How, *, certain: bool) -> list[Hits]:
        self._tell_of_bulk_load(spec)
        require_tenant(spec, how.tenant)
        examples.require_size(spec)
        lens = find_lens(spec, how.lens)
        told: dict[str, Any] = {"mode": SearchMode.DENSE, "score_kind": examples.score_kind(spec), "lens": how.lens}
        texts: dict[str, Vector] = {}
        watch = Stopwatch()
        if examples.texts:
            applied = query_instruction(spec, lens, how.instruction)
            texts = dict(zip(examples.texts, self._encode(spec, examples.texts, applied), strict=True))
            watch.lap("encode")
            told |= _told_of(spec, applied)
        query = examples.asked(vectors_of(self._store, spec, examples, how.tenant, how.lens or ""), texts)
        others = replace(how, conditions=examples.others(how.conditions, how.tenant))
        asked: list[Asked] = [lambda conditions: {"query": query, "using": how.lens}]
        return self._found(spec, others, asked, told, certain, watch)

    def _found(
        self,
        spec: CollectionSpec,
        how: How,
        asked: Sequence[Asked],
        told: Mapping[str, Any],
        certain: bool,
        watch: Stopwatch,
        reranked: _Reranked | None = None,
    ) -> list[Hits]:
        kind = str(told["score_kind"])
        retrieval = self._retrieval(spec, how, kind)
        pages, server_s = _pages(retrieval, asked)
        if spec.key not in self._mixed and (foreign := first_foreign(chain.from_iterable(pages))):
            self._mixed.add(spec.key)
            log.warning("collection %r holds points that no search shows; one of them: %s", spec.name, foreign.problem)
            retrieval = self._retrieval(spec, how, kind)
            pages, server_s = _pages(retrieval, asked)
        watch.lap("qdrant")
        applied = {**told, "score_kind": how.shape.kind(kind)}
        found = [Hits(hits_of(spec, page, applied, certain, texts=how.content.text)) for page in pages]
        if how.grouped:
            found = [Hits(by_document(hits, how.chunks_per_document)) for hits in found]
        if reranked is not None:
            found, applied = reranked.order(found), {**applied, **reranked.told}
            watch.lap("rerank")
        if how.context_chunks:
            found = [Hits(with_passages(self._store, spec, hits, how.context_chunks)) for hits in found]
            watch.lap("passages")
        if how.explain:
            for hits, each in zip(found, asked, strict=True):
                hits.explanation = explained(retrieval, each, applied, watch, server_s)
        return found

    def _retrieval(self, spec: CollectionSpec, how: How, kind: str) -> Retrieval:
        conditions = _ours(how.conditions) if spec.key in self._mixed else how.conditions
        return Retrieval(self._store, spec, how, conditions, kind)

    def _encode(self, spec: CollectionSpec, queries: list[str], applied: Applied) -> list[Vector]:
        templates = spec.space.templates
        self._cautions.tell(f"collection {spec.name!r}", spec.space, applied, templates.of_query(applied.text))
        model_input = [templates.for_query(query, applied.text) for query in queries]
        return list(self._queries.encode(spec.space, model_input))


def _pages(retrieval: Retrieval, asked: Sequence[Asked]) -> tuple[list[list[FoundPoint]], float | None]:
    pages, server_s = retrieval.pages(asked)
    return [[point for row in page for point in row.points] for page in pages], server_s


def _told_of(spec: CollectionSpec, applied: Applied) -> dict[str, Any]:
    """What hits say of how their query was encoded."""
    template = spec.space.templates.of_query(applied.text)
    return {"instruction": applied.label, "instruction_text": applied.text, "template": template}


def _ours(conditions: models.Filter | None) -> models.Filter:
    """Only points with a record of ours."""
    foreign = models.IsEmptyCondition(is_empty=models.PayloadField(key=VERSION_PATH))
    return models.Filter(must=conditions, must_not=[foreign])
