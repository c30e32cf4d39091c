"""A Gristmill collection as LangChain's vector store.

Texts are embedded by the workers, under the model's own templates, and added texts are searchable when the call returns:
what died on its way raises and is named. Asyncio's calls wait in no thread of the caller's pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Unpack

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from gristmill.adapters.clients import AnyClient, asked_client
from gristmill.adapters.conditions import EVERYTHING, joined
from gristmill.adapters.langchain.embeddings import GristmillEmbeddings
from gristmill.adapters.langchain.items import document_of, documents_of, relevance_of
from gristmill.arguments import identifier, number, refuse, seconds
from gristmill.async_client import AsyncClient, AsyncTenantClient, twin_of
from gristmill.client import Client
from gristmill.options import check_names, names_of
from gristmill.search.filters import Where
from gristmill.search.options import SearchOptions, SimilarOptions, checked
from gristmill_schemas import SearchHit
from gristmill_schemas.errors import CollectionNotFound, InvalidInput

#: Said by the calls themselves, or by the store.
_NOT_FIXED: Final = {"limit", "offset", "text", "explain"}
#: Options that a search by a vector has no use for, and those that a varied one has none for.
_OF_WORDS: Final = set(names_of(SearchOptions)) - set(names_of(SimilarOptions))
_OF_LISTS: Final = {"mode", "fusion"}


class GristmillVectorStore(VectorStore):  # type: ignore[misc]  # mypy does not look into LangChain
    """A collection, with what its searches have in common: instruction, mode, lens, filter, reranking."""

    def __init__(
        self,
        client: AnyClient | None = None,
        collection: str | None = None,
        *,
        timeout_s: float | None = None,
        **options: Unpack[SearchOptions],
    ) -> None:
        """Nothing is asked for yet.

        Args:
            client: None opens one by `GRISTMILL_*` settings; a client of one tenant is taken as well.
            collection: an existing one; `from_texts` makes one.
            timeout_s: how long adding and deleting wait until it is done; None as long as it takes.
            options: what all searches of this store have in common, as `Client.search` takes it: `instruction`, `mode`,
                `lens`, `where`, `rerank` and so on. A call may say otherwise; to `where` it may only add. `tenant` is
                whose documents the store holds: nobody else's can be found, added or deleted by it.

        Raises:
            InvalidInput: an argument is wrong.
            TypeError: there is no option of this name.
        """
        check_names(f"{type(self).__name__}()", options, set(names_of(SearchOptions)) - _NOT_FIXED)
        checked(**options)
        self.client = asked_client(client, options.pop("tenant", None))
        self.collection = identifier("collection", collection)
        self._timeout_s = seconds("timeout_s", timeout_s)
        self._options: dict[str, Any] = dict(options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.collection!r} of {self.client!r}>"

    @property
    def embeddings(self) -> GristmillEmbeddings:
        """Vectors as this collection has them."""
        how = {name: self._options.get(name) for name in ("instruction", "lens")}
        return GristmillEmbeddings(self.client, collection=self.collection, **how)

    @cached_property
    def _awaited(self) -> AsyncClient | AsyncTenantClient:
        return twin_of(self.client)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
    ) -> list[str]:
        """Add texts, or replace those that are there under the same ids; back once all of them are searchable.

        Args:
            texts: as many as you like.
            metadatas: one per text.
            ids: one per text; None, for all or for one, makes one of text and metadata, so that nothing is added twice.
            batch_size: what LangChain's `index` passes; unused, since the client makes its own batches.

        Returns:
            The ids, one per text.

        Raises:
            DocumentsFailed: some were refused or died, and are named; the others are stored.
            WaitTimeout: `timeout_s` is over; the work goes on.
            InvalidInput, CollectionNotFound, BrokerUnavailable, StoreUnavailable and what else `enqueue` raises.
        """
        given, documents = documents_of(texts, metadatas, ids)
        self.client.enqueue(self.collection, documents).wait(self._timeout_s).raise_for_failures()
        return given

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
    ) -> list[str]:
        """See `add_texts`."""
        given, documents = documents_of(texts, metadatas, ids)
        job = await self._awaited.enqueue(self.collection, documents)
        (await job.wait(self._timeout_s)).raise_for_failures()
        return given

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Whole documents, put together from their chunks, in the order of their ids; what is not there is absent."""
        return [document_of(each) for each in self.client.get(self.collection, list(ids))]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """See `get_by_ids`."""
        return [document_of(each) for each in await self._awaited.get(self.collection, list(ids))]

    def delete(
        self, ids: Sequence[str] | None = None, *, where: Where | None = None, filter: Where | None = None
    ) -> bool:
        """Delete documents; back once they are gone. An id that is not there is no error.

        Args:
            ids: which ones; an empty list deletes nothing.
            where: or all that match this filter. With neither, LangChain's contract is to delete **all** of the store,
                which are its tenant's documents where it has one.
            filter: the same, as other stores call it.

        Returns:
            True; what went wrong raises.
        """
        call, given = self._deletion(self.client, ids, where, filter)
        call(self.collection, given).wait(self._timeout_s).raise_for_failures()
        return True

    async def adelete(
        self, ids: Sequence[str] | None = None, *, where: Where | None = None, filter: Where | None = None
    ) -> bool:
        """See `delete`."""
        call, given = self._deletion(self._awaited, ids, where, filter)
        job = await call(self.collection, given)
        (await job.wait(self._timeout_s)).raise_for_failures()
        return True

    @staticmethod
    def _deletion(client: Any, ids: Sequence[str] | None, where: Where | None, filter: Where | None) -> tuple[Any, Any]:
        conditions = _both(where, filter)
        if ids is None:
            return client.delete_where, EVERYTHING if conditions is None else conditions
        if conditions is not None:
            raise refuse("where", "None beside ids, which say already what to delete", conditions)
        return client.delete, ids

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """The best documents, or the best chunks of long ones.

        Args:
            query: what is looked for.
            k: most of them.
            options: as `Client.search` takes them, for this call; `filter` is another name for `where`. With
                `context_chunks` the passage around a chunk is the document's content.

        Raises:
            InvalidInput: an argument is wrong. And what `Client.search` raises.
        """
        return [document_of(hit) for hit in self._search(query, k, options)]

    async def asimilarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """See `similarity_search`."""
        return [document_of(hit) for hit in await self._asearch(query, k, options)]

    def similarity_search_with_score(self, query: str, k: int = 4, **options: Any) -> list[tuple[Document, float]]:
        """As `similarity_search`, each with its score: by cosine, BM25, fused ranks or the reranker, as the search is."""
        return [(document_of(hit), hit.score) for hit in self._search(query, k, options)]

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """See `similarity_search_with_score`."""
        return [(document_of(hit), hit.score) for hit in await self._asearch(query, k, options)]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        return [(document_of(hit), relevance_of(hit)) for hit in self._search(query, k, options)]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        return [(document_of(hit), relevance_of(hit)) for hit in await self._asearch(query, k, options)]

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **options: Any) -> list[Document]:
        """The best documents by a query's vector, as `self.embeddings.embed_query` makes it."""
        asked = self._asked(k, options, besides=_OF_WORDS)
        return [document_of(hit) for hit in self.client.search_by_vector(self.collection, embedding, **asked)]

    async def asimilarity_search_by_vector(self, embedding: list[float], k: int = 4, **options: Any) -> list[Document]:
        """See `similarity_search_by_vector`."""
        asked = self._asked(k, options, besides=_OF_WORDS)
        hits = await self._awaited.search_by_vector(self.collection, embedding, **asked)
        return [document_of(hit) for hit in hits]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """Documents that answer the query and are unlike one another, by vectors whatever the mode; chosen by Qdrant.

        Args:
            query: what is looked for.
            k: most of them.
            fetch_k: the best so many, of which they are chosen.
            lambda_mult: from 0, as different as can be, to 1, nearest first.
            options: as in `similarity_search`.
        """
        asked = self._varied(k, fetch_k, lambda_mult, options, _OF_LISTS)
        return [document_of(hit) for hit in self.client.search(self.collection, query, **asked)]

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """See `max_marginal_relevance_search`."""
        asked = self._varied(k, fetch_k, lambda_mult, options, _OF_LISTS)
        return [document_of(hit) for hit in await self._awaited.search(self.collection, query, **asked)]

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, by a query's vector."""
        asked = self._varied(k, fetch_k, lambda_mult, options, _OF_WORDS)
        return [document_of(hit) for hit in self.client.search_by_vector(self.collection, embedding, **asked)]

    async def amax_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """See `max_marginal_relevance_search_by_vector`."""
        asked = self._varied(k, fetch_k, lambda_mult, options, _OF_WORDS)
        hits = await self._awaited.search_by_vector(self.collection, embedding, **asked)
        return [document_of(hit) for hit in hits]

    def _search(self, query: str, k: int, options: Mapping[str, Any]) -> list[SearchHit]:
        return self.client.search(self.collection, query, **self._asked(k, options))

    async def _asearch(self, query: str, k: int, options: Mapping[str, Any]) -> list[SearchHit]:
        return await self._awaited.search(self.collection, query, **self._asked(k, options))

    def _asked(self, k: int, options: Mapping[str, Any], besides: Iterable[str] = ()) -> Any:
        """What a search is told: the store's own options but some, and those of the call laid over them."""
        given = dict(options)
        conditions = _both(given.pop("where", None), given.pop("filter", None))
        if "limit" in given:
            raise refuse("limit", "k, as LangChain calls it", given["limit"])
        if given.get("text", True) is not True:
            raise refuse("text", "True, since a document is its text", given["text"])
        own = {name: value for name, value in self._options.items() if name not in besides}
        return {**own, **given, "where": joined(own.get("where"), conditions), "limit": k}

    def _varied(
        self, k: int, fetch_k: int, lambda_mult: float, options: Mapping[str, Any], besides: Iterable[str]
    ) -> Any:
        kept = number("lambda_mult", lambda_mult, 0)
        if kept > 1:
            raise refuse("lambda_mult", "a number from 0 (as different as can be) to 1 (nearest first)", lambda_mult)
        if fetch_k < k:
            raise refuse("fetch_k", f"at least k, which is {k}", fetch_k)
        return {**self._asked(k, options, besides), "diversity": 1 - kept, "candidates": fetch_k}

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | None = None,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        client: AnyClient | None = None,
        collection: str | None = None,
        **options: Any,
    ) -> GristmillVectorStore:
        """A store of a collection, made where there is none, with these texts in it.

        Args:
            texts: what is added; see `add_texts`.
            embedding: `GristmillEmbeddings`, whose client and model are taken; None takes `client` and the model that is
                served. No other's: the workers embed.
            metadatas: one per text.
            ids: one per text.
            client: None takes that of `embedding`, or opens one by `GRISTMILL_*` settings.
            collection: its name; None takes that of `embedding`.
            options: as the class takes them.

        Raises:
            InvalidInput, SpaceMismatch: an argument is wrong; the collection has another model. And what `add_texts` raises.
        """
        store = cls._opened(embedding, client, collection, options)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | None = None,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        client: AnyClient | None = None,
        collection: str | None = None,
        **options: Any,
    ) -> GristmillVectorStore:
        """See `from_texts`."""
        from langchain_core.runnables.config import run_in_executor

        store: GristmillVectorStore = await run_in_executor(None, cls._opened, embedding, client, collection, options)
        await store.aadd_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    def _opened(
        cls, embedding: Embeddings | None, client: AnyClient | None, collection: str | None, options: Mapping[str, Any]
    ) -> GristmillVectorStore:
        if embedding is not None and not isinstance(embedding, GristmillEmbeddings):
            expected = "GristmillEmbeddings or None, since the workers embed what is added"
            raise refuse("embedding", expected, type(embedding))
        opened = client or (embedding.client if embedding else asked_client(None))
        named = collection or (embedding.collection if embedding else None)
        if named is None:
            raise refuse("collection", "the name of a collection", None)
        store = cls(opened, named, **options)
        if isinstance(opened, Client):
            _made(opened, named, embedding.model if embedding else None)
        return store


def _made(client: Client, collection: str, model: str | None) -> None:
    """See that there is such a collection, of this model if one is named."""
    try:
        there = client.collections.get(collection)
    except CollectionNotFound:
        client.create_collection(collection, model)
    else:
        if model is not None:
            client.create_collection(collection, model, dimensions=there.space.dimensions)


def _both(where: Where | None, filter: Where | None) -> Where | None:
    if where is not None and filter is not None:
        raise InvalidInput("filter: expected it or where, which are the same, got both", field="filter")
    return filter if where is None else where
