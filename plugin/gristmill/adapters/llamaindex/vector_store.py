"""A Gristmill collection as LlamaIndex's vector store.

Nodes are embedded by the workers, under the model's own templates, and are searchable when `add` returns: what died on its
way raises and is named. A query's text goes to the workers, too, so an index over this store needs no embedding of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Unpack

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from pydantic import PrivateAttr

from gristmill.adapters.clients import AnyClient, asked_client
from gristmill.adapters.conditions import EVERYTHING, joined, of_ids
from gristmill.adapters.llamaindex.filters import where_of
from gristmill.adapters.llamaindex.nodes import SOURCE, document_of, node_of
from gristmill.arguments import flag, identifier, number, refuse, seconds
from gristmill.async_client import AsyncClient, AsyncTenantClient, twin_of
from gristmill.options import check_names, names_of
from gristmill.search.filters import Where
from gristmill.search.options import SearchOptions, SimilarOptions, checked
from gristmill_schemas import SearchHit, SearchMode, StoredDocument
from gristmill_schemas.errors import InvalidInput

#: Said by LlamaIndex's own query, or by the store.
_NOT_FIXED: Final = {"limit", "offset", "text", "explain", "fields", "group_by_document", "chunks_per_document"}
_SAID: Final = _NOT_FIXED - {"offset", "explain"}
_MODES: Final = {
    VectorStoreQueryMode.HYBRID: SearchMode.HYBRID,
    VectorStoreQueryMode.TEXT_SEARCH: SearchMode.KEYWORD,
    VectorStoreQueryMode.SPARSE: SearchMode.KEYWORD,
    VectorStoreQueryMode.MMR: SearchMode.DENSE,
}
#: What a store's searches have in common and one of this mode cannot use.
_NO_USE: Final = {
    SearchMode.DENSE: {"fusion"},
    SearchMode.KEYWORD: {"fusion", "lens", "diversity"},
    SearchMode.HYBRID: {"diversity"},
}
_OF_WORDS: Final = set(names_of(SearchOptions)) - set(names_of(SimilarOptions))
#: LlamaIndex's own default for the weight of relevance.
_RELEVANCE: Final = 0.5
_PAGE: Final = 256


class GristmillVectorStore(BasePydanticVectorStore):  # type: ignore[misc]  # mypy does not look into LlamaIndex
    """A collection, with what its searches have in common: instruction, mode, lens, filter, reranking."""

    stores_text: bool = True
    is_embedding_query: bool = False
    collection: str
    embed_metadata: bool = False
    timeout_s: float | None = None
    _client: AnyClient = PrivateAttr()
    _options: dict[str, Any] = PrivateAttr()

    def __init__(
        self,
        client: AnyClient | None = None,
        *,
        collection: str,
        embed_metadata: bool = False,
        timeout_s: float | None = None,
        is_embedding_query: bool = False,
        **options: Unpack[SearchOptions],
    ) -> None:
        """Nothing is asked for yet.

        Args:
            client: None opens one by `GRISTMILL_*` settings; a client of one tenant is taken as well.
            collection: an existing one.
            embed_metadata: a node is stored and embedded as LlamaIndex would embed it, its metadata above its text
                (`MetadataMode.EMBED`); otherwise as its text alone.
            timeout_s: how long adding and deleting wait until it is done; None as long as it takes.
            is_embedding_query: the index shall embed queries itself, by a `GristmillEmbedding` of this collection; for what
                changes the vectors of queries on their way, such as HyDE.
            options: what all searches of this store have in common, as `Client.search` takes it: `instruction`, `mode`,
                `lens`, `where`, `rerank` and so on. `tenant` is whose documents the store holds: nobody else's can be found,
                added or deleted by it.

        Raises:
            InvalidInput: an argument is wrong.
            TypeError: there is no option of this name.
        """
        check_names(f"{type(self).__name__}()", options, set(names_of(SearchOptions)) - _NOT_FIXED)
        checked(**options)
        super().__init__(
            collection=identifier("collection", collection),
            embed_metadata=flag("embed_metadata", embed_metadata),
            timeout_s=seconds("timeout_s", timeout_s),
            is_embedding_query=flag("is_embedding_query", is_embedding_query),
        )
        self._client = asked_client(client, options.pop("tenant", None))
        self._options = dict(options)

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it."""
        return "GristmillVectorStore"

    @property
    def client(self) -> AnyClient:
        """The client that it asks."""
        return self._client

    @cached_property
    def _awaited(self) -> AsyncClient | AsyncTenantClient:
        return twin_of(self._client)

    def add(self, nodes: Sequence[BaseNode]) -> list[str]:
        """Add nodes, or replace those that are there under the same ids; back once all of them are searchable.

        Args:
            nodes: as many as you like. Vectors that they bring are not looked at: the workers embed.

        Returns:
            Their ids.

        Raises:
            DocumentsFailed: some were refused or died, and are named; the others are stored.
            WaitTimeout: `timeout_s` is over; the work goes on.
            CollectionNotFound, BrokerUnavailable, StoreUnavailable and what else `enqueue` raises.
        """
        self._client.enqueue(self.collection, self._documents(nodes)).wait(self.timeout_s).raise_for_failures()
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode]) -> list[str]:
        """See `add`."""
        job = await self._awaited.enqueue(self.collection, self._documents(nodes))
        (await job.wait(self.timeout_s)).raise_for_failures()
        return [node.node_id for node in nodes]

    def _documents(self, nodes: Iterable[BaseNode]) -> list[dict[str, Any]]:
        return [document_of(node, embed_metadata=self.embed_metadata) for node in nodes]

    def delete(self, ref_doc_id: str) -> None:
        """Delete all nodes of a document of LlamaIndex; none is no error."""
        self._delete_where({SOURCE: identifier("ref_doc_id", ref_doc_id)})

    async def adelete(self, ref_doc_id: str) -> None:
        """See `delete`."""
        await self._adelete_where({SOURCE: identifier("ref_doc_id", ref_doc_id)})

    def delete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> None:
        """Delete nodes by their ids, by a filter, or by both."""
        self._delete_where(_which(node_ids, filters))

    async def adelete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> None:
        """See `delete_nodes`."""
        await self._adelete_where(_which(node_ids, filters))

    def clear(self) -> None:
        """Delete all nodes: of a tenant's store those of the tenant."""
        self._delete_where(EVERYTHING)

    async def aclear(self) -> None:
        """See `clear`."""
        await self._adelete_where(EVERYTHING)

    def _delete_where(self, where: Where) -> None:
        self._client.delete_where(self.collection, where).wait(self.timeout_s).raise_for_failures()

    async def _adelete_where(self, where: Where) -> None:
        job = await self._awaited.delete_where(self.collection, where)
        (await job.wait(self.timeout_s)).raise_for_failures()

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Whole nodes, by their ids, by a filter, by both, or all of them; what is not there is absent."""
        if node_ids is not None and filters is None:
            return [node_of(each) for each in self._client.get(self.collection, node_ids)]
        page = self._client.scroll(self.collection, where := _narrowed(node_ids, filters), limit=_PAGE)
        found = list(page.documents)
        while page.cursor is not None:
            page = self._client.scroll(self.collection, where, limit=_PAGE, cursor=page.cursor)
            found += page.documents
        return [node_of(each) for each in found]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """See `get_nodes`."""
        if node_ids is not None and filters is None:
            return [node_of(each) for each in await self._awaited.get(self.collection, node_ids)]
        page = await self._awaited.scroll(self.collection, where := _narrowed(node_ids, filters), limit=_PAGE)
        found = list(page.documents)
        while page.cursor is not None:
            page = await self._awaited.scroll(self.collection, where, limit=_PAGE, cursor=page.cursor)
            found += page.documents
        return [node_of(each) for each in found]

    def query(self, query: VectorStoreQuery, **options: Any) -> VectorStoreQueryResult:
        """The best nodes, whole, each once.

        Args:
            query: LlamaIndex's. Modes `default` (the store's own), `hybrid`, `text_search` and `sparse` (words, by BM25) and
                `mmr`. A query's embedding is taken in modes that compare vectors, where it is there; its text otherwise.
                `embedding_field` names a lens.
            options: as `Client.search` takes them, for this query: a retriever's `vector_store_kwargs`.

        Raises:
            InvalidInput: something of the query has no counterpart here; the message names it. And what `search` raises.
        """
        call, subject, asked = self._call(query, options)
        hits: list[SearchHit] = getattr(self._client, call)(self.collection, subject, **asked)
        cut = _cut(hits)
        return _result(hits, self._client.get(self.collection, cut, tenant=asked.get("tenant")) if cut else [])

    async def aquery(self, query: VectorStoreQuery, **options: Any) -> VectorStoreQueryResult:
        """See `query`."""
        call, subject, asked = self._call(query, options)
        hits: list[SearchHit] = await getattr(self._awaited, call)(self.collection, subject, **asked)
        cut = _cut(hits)
        whole = await self._awaited.get(self.collection, cut, tenant=asked.get("tenant")) if cut else []
        return _result(hits, whole)

    def _call(self, query: VectorStoreQuery, options: Mapping[str, Any]) -> tuple[str, Any, dict[str, Any]]:
        """The client's call, what it looks for, and its options."""
        _check(query, options)
        own = dict(self._options)
        mode = _MODES.get(query.mode) or SearchMode(options.get("mode", own.get("mode", SearchMode.DENSE)))
        asked = {name: value for name, value in own.items() if name not in _NO_USE[mode]} | _of(query) | dict(options)
        asked |= {"mode": mode, "group_by_document": True, "where": self._where(query, options)}
        if query.query_embedding is not None and mode is SearchMode.DENSE:
            told = {name: value for name, value in asked.items() if name not in _OF_WORDS}
            return "search_by_vector", query.query_embedding, told
        if query.query_str is None:
            raise refuse("query_str", f"a text with mode {query.mode.value!r}", None)
        return "search", query.query_str, asked

    def _where(self, query: VectorStoreQuery, options: Mapping[str, Any]) -> Where | None:
        """What meets the store's filter, the call's and the query's."""
        return joined(
            self._options.get("where"),
            options.get("where"),
            where_of(query.filters),
            {SOURCE: list(query.doc_ids)} if query.doc_ids else None,
            of_ids(query.node_ids) if query.node_ids else None,
        )


def _check(query: VectorStoreQuery, options: Mapping[str, Any]) -> None:
    """Refuse what would have to be left out."""
    for name in sorted(_SAID & set(options)):
        raise refuse(name, "nothing: LlamaIndex's own query says how many nodes, and they come whole", options[name])
    if query.mode is not VectorStoreQueryMode.DEFAULT and query.mode not in _MODES:
        raise refuse("mode", f"one of {', '.join(('default', *(each.value for each in _MODES)))}", query.mode.value)
    if query.alpha is not None:
        raise refuse("alpha", "None: both lists are fused by ranks (fusion='rrf') or by scores ('dbsf')", query.alpha)
    if query.output_fields is not None:
        raise refuse("output_fields", "None, since nodes are read whole", query.output_fields)


def _of(query: VectorStoreQuery) -> dict[str, Any]:
    """What the query itself says, as options of a search."""
    few = {VectorStoreQueryMode.HYBRID: query.hybrid_top_k, VectorStoreQueryMode.SPARSE: query.sparse_top_k}
    asked: dict[str, Any] = {"limit": few.get(query.mode) or query.similarity_top_k}
    if query.mode is VectorStoreQueryMode.HYBRID and query.sparse_top_k is not None:
        asked["candidates"] = query.sparse_top_k
    if query.mode is VectorStoreQueryMode.MMR:
        asked["diversity"] = 1 - _relevance(query.mmr_threshold)
    if query.embedding_field is not None:
        asked["lens"] = query.embedding_field
    return asked


def _relevance(threshold: object) -> float:
    found = _RELEVANCE if threshold is None else number("mmr_threshold", threshold, 0)
    if found > 1:
        raise refuse("mmr_threshold", "a number from 0 (as different as can be) to 1 (nearest first)", threshold)
    return found


def _narrowed(node_ids: list[str] | None, filters: MetadataFilters | None) -> Where | None:
    return joined(None if node_ids is None else of_ids(node_ids), where_of(filters))


def _which(node_ids: list[str] | None, filters: MetadataFilters | None) -> Where:
    """What is to be deleted; nothing by an empty list of ids, never all of it by mistake."""
    where = _narrowed(node_ids, filters)
    if where is None:
        raise InvalidInput(
            "node_ids: expected ids or filters, got neither; clear() deletes all nodes", field="node_ids"
        )
    return where


def _cut(hits: Iterable[SearchHit]) -> list[str]:
    """Documents of which a chunk was found, and a whole node is wanted."""
    return [hit.id for hit in hits if hit.chunks > 1]


def _result(hits: Sequence[SearchHit], whole: Iterable[StoredDocument]) -> VectorStoreQueryResult:
    texts = {each.id: each.text for each in whole}
    return VectorStoreQueryResult(
        nodes=[node_of(hit, texts.get(hit.id)) for hit in hits],
        similarities=[hit.score for hit in hits],
        ids=[hit.id for hit in hits],
    )
