"""What LangChain's own suites do not ask: instructions, modes, filters, tenants, what dies, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores import VectorStore

from gristmill import Chunking, Client, DocumentsFailed, Hits, InvalidInput, LongTexts, SpaceMismatch
from gristmill.adapters.langchain import GristmillEmbeddings, GristmillVectorStore

TEXTS = ["退款需要几天到账", "用了优惠券但没减钱", "invoice pdf 4711", "how to reset a password"]
METADATAS: list[dict[str, Any]] = [{"lang": lang, "n": n} for n, lang in enumerate(("zh", "zh", "en", "en"))]
IDS = ["a", "b", "c", "d"]


@pytest.fixture
def store(mill: Client, empty: str) -> GristmillVectorStore:
    held = GristmillVectorStore(mill, empty)
    held.add_texts(TEXTS, METADATAS, ids=IDS)
    return held


def ids(documents: list[Document]) -> list[str]:
    return [each.id for each in documents]


def same(documents: list[Document], hits: Hits) -> bool:
    return [(each.id, each.page_content, each.metadata) for each in documents] == [
        (hit.id, hit.text, hit.metadata) for hit in hits
    ]


def test_a_store_finds_what_the_client_finds_under_the_same_options(mill: Client, store: GristmillVectorStore) -> None:
    assert ids(store.similarity_search("退款需要几天到账", k=1)) == ["a"]
    ways: list[Any] = [{"instruction": "Find the answer to it"}, {"offset": 1}, {"exact": True}, {"rerank": True}]
    for how in ways:
        found = store.similarity_search("用了优惠券", k=3, **how)
        assert same(found, mill.search(store.collection, "用了优惠券", limit=3, **how)), how
    fixed = GristmillVectorStore(mill, store.collection, instruction="Find the answer to it", where={"lang": "zh"})
    told: Any = {"instruction": "Find the answer to it", "where": {"lang": "zh"}, "limit": 4}
    assert same(fixed.similarity_search("退款"), mill.search(store.collection, "退款", **told))
    assert fixed.embeddings.embed_query("q") == pytest.approx(
        mill.embed("q", collection=store.collection, instruction="Find the answer to it").tolist()
    )


def test_filters_narrow_and_never_widen_what_the_store_is_limited_to(mill: Client, store: GristmillVectorStore) -> None:
    assert set(ids(store.similarity_search("x", k=9, filter={"lang": "en"}))) == {"c", "d"}
    assert set(ids(store.similarity_search("x", k=9, where={"n": {"gte": 1, "lt": 3}}))) == {"b", "c"}
    chinese = GristmillVectorStore(mill, store.collection, where={"lang": "zh"})
    assert set(ids(chinese.similarity_search("x", k=9))) == {"a", "b"}
    assert set(ids(chinese.similarity_search("x", k=9, filter={"n": {"gte": 1}}))) == {"b"}
    assert chinese.similarity_search("x", k=9, filter={"lang": "en"}) == []
    retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"lang": "en"}})
    assert [each.metadata["lang"] for each in retriever.invoke("退款需要几天到账")] == ["en"]


def test_words_and_both_lists_are_searched(mill: Client, store: GristmillVectorStore) -> None:
    by_words = GristmillVectorStore(mill, store.collection, mode="keyword")
    assert ids(by_words.similarity_search("4711")) == ["c"]
    hybrid = GristmillVectorStore(mill, store.collection, mode="hybrid", fusion="dbsf")
    assert "c" in ids(hybrid.similarity_search("4711", k=2))
    assert len(hybrid.max_marginal_relevance_search("4711", k=2)) == 2, "by vectors, whatever the store's mode"
    assert len(hybrid.similarity_search_by_vector([1.0] * 16, k=2)) == 2
    with pytest.raises(InvalidInput, match="scores of kind 'dbsf': similarity_search_with_score gives those"):
        hybrid.similarity_search_with_relevance_scores("4711")
    reranked = hybrid.similarity_search_with_relevance_scores("invoice pdf 4711", k=4, rerank=True)
    assert reranked[0][0].id == "c"
    assert all(0 <= relevance <= 1 for _, relevance in reranked)


def test_relevance_goes_from_zero_to_one_and_a_threshold_cuts(store: GristmillVectorStore) -> None:
    found = store.similarity_search_with_relevance_scores("退款需要几天到账", k=4)
    assert found[0][1] == pytest.approx(1.0)
    assert [relevance for _, relevance in found] == sorted((r for _, r in found), reverse=True)
    scores = store.similarity_search_with_score("退款需要几天到账", k=4)
    assert [relevance for _, relevance in found] == pytest.approx([(1 + score) / 2 for _, score in scores], abs=1e-6)
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99})
    assert ids(retriever.invoke("退款需要几天到账")) == ["a"]


def test_marginal_relevance_is_qdrants_own_by_query_and_by_vector(mill: Client, store: GristmillVectorStore) -> None:
    near = store.max_marginal_relevance_search(TEXTS[0], k=3, lambda_mult=1)
    assert ids(near) == ids(store.similarity_search(TEXTS[0], k=3))
    varied = store.max_marginal_relevance_search(TEXTS[0], k=3, lambda_mult=0.3)
    assert same(varied, mill.search(store.collection, TEXTS[0], limit=3, diversity=0.7, candidates=20))
    vector = store.embeddings.embed_query(TEXTS[0])
    assert store.max_marginal_relevance_search_by_vector(vector, k=3, lambda_mult=0.3) == varied
    assert ids(store.similarity_search_by_vector(vector, k=2, filter={"lang": "zh"})) == ["a", "b"]
    assert ids(store.as_retriever(search_type="mmr", search_kwargs={"k": 2}).invoke(TEXTS[0]))[0] == "a"
    with pytest.raises(InvalidInput, match="lambda_mult: expected a number from 0"):
        store.max_marginal_relevance_search("q", lambda_mult=2)
    with pytest.raises(InvalidInput, match="fetch_k: expected at least k, which is 4, got 3"):
        store.max_marginal_relevance_search("q", fetch_k=3)


def test_the_same_text_is_added_once_and_an_id_is_replaced(mill: Client, store: GristmillVectorStore) -> None:
    first = store.add_texts(["new", "new", "other"], [{"n": 1}, {"n": 1}, {"n": 1}])
    assert first[0] == first[1] != first[2]
    assert store.add_texts(["new"], [{"n": 1}]) == first[:1]
    assert store.add_texts(["new"], [{"n": 2}]) != first[:1], "other metadata, another document"
    assert mill.count(store.collection) == 4 + 3
    store.add_documents([Document(id="a", page_content="replaced", metadata={})])
    assert [(each.page_content, each.metadata) for each in store.get_by_ids(["a"])] == [("replaced", {})]


def test_a_text_that_cannot_be_stored_raises_by_its_name_and_its_neighbours_are_stored(
    mill: Client, collection_name: str
) -> None:
    mill.create_collection(collection_name, chunking=Chunking(long_texts=LongTexts.REFUSE))
    store = GristmillVectorStore(mill, collection_name)
    with pytest.raises(DocumentsFailed, match=r"'too-long' died: .*tokens"):
        store.add_texts(["fine", "word " * 600, "good"], ids=["1", "too-long", "2"])
    with pytest.raises(DocumentsFailed, match=r"3.*id: expected each id once per call"):
        store.add_texts(["one", "two"], ids=["3", "3"])
    with pytest.raises(DocumentsFailed, match=r"'blank'.* text: "):
        asyncio.run(store.aadd_texts([" ", "four"], ids=["blank", "4"]))
    assert sorted(ids(store.get_by_ids(["1", "2", "3", "4", "too-long", "blank"]))) == ["1", "2", "3", "4"]
    mill.collections.delete(collection_name)


def test_a_store_of_a_tenant_neither_finds_nor_deletes_what_is_anothers(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, tenants=True)
    acme, evil = (GristmillVectorStore(mill, collection_name, tenant=each) for each in ("acme", "evil"))
    acme.add_texts(["plan of acme"], ids=["1"])
    evil.add_texts(["plan of evil"], ids=["1"])
    assert [each.page_content for each in acme.similarity_search("plan of evil")] == ["plan of acme"]
    with pytest.raises(InvalidInput, match="this client is of 'acme' alone"):
        acme.similarity_search("plan", tenant="evil")
    with pytest.raises(InvalidInput, match="tenant: the client is of 'acme' alone, got 'evil'"):
        GristmillVectorStore(mill.tenant("acme"), collection_name, tenant="evil")
    acme.delete()
    assert acme.get_by_ids(["1"]) == []
    assert len(GristmillVectorStore(mill.tenant("evil"), collection_name).get_by_ids(["1"])) == 1
    mill.collections.delete(collection_name)


def test_deleting_takes_ids_or_a_filter_and_without_either_all(mill: Client, store: GristmillVectorStore) -> None:
    assert store.delete([]) is True
    assert mill.count(store.collection) == 4
    store.delete(filter={"lang": "en"})
    assert {each.id for each in mill.scroll(store.collection).documents} == {"a", "b"}
    with pytest.raises(InvalidInput, match="where: expected None beside ids"):
        store.delete(["a"], where={"lang": "zh"})
    assert asyncio.run(store.adelete(["a"])) is True
    store.delete()
    assert mill.count(store.collection) == 0


def test_a_store_made_of_texts_makes_its_collection_for_the_embeddings_model(
    mill: Client, collection_name: str
) -> None:
    embeddings = GristmillEmbeddings(mill, model="hash:16")
    documents = [Document(id="1", page_content="eins", metadata={"n": 1}), Document(page_content="zwei")]
    made = GristmillVectorStore.from_documents(documents, embeddings, collection=collection_name)
    assert isinstance(made, VectorStore)
    assert ids(made.similarity_search("eins", k=1)) == ["1"]
    again = asyncio.run(GristmillVectorStore.afrom_texts(["drei"], made.embeddings, ids=["3"]))
    assert (again.collection, mill.count(collection_name)) == (collection_name, 3)
    with pytest.raises(InvalidInput, match="embedding: expected GristmillEmbeddings or None"):
        GristmillVectorStore.from_texts(["t"], DeterministicFakeEmbedding(size=16), client=mill, collection="c")
    with pytest.raises(InvalidInput, match="collection: expected the name of a collection"):
        GristmillVectorStore.from_texts(["t"], embeddings)
    mill.collections.delete(collection_name)


def test_langchains_index_stores_what_is_new_and_deletes_what_is_gone(mill: Client, empty: str) -> None:
    store, records = GristmillVectorStore(mill, empty), InMemoryRecordManager(namespace=empty)
    records.create_schema()
    documents = [Document(page_content=text, metadata={"source": "faq"}) for text in TEXTS]
    how: dict[str, Any] = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    assert index(documents, records, store, **how)["num_added"] == 4
    assert index(documents, records, store, **how)["num_skipped"] == 4
    assert index(documents[:3], records, store, **how)["num_deleted"] == 1
    assert mill.count(empty) == 3


def test_asyncios_calls_answer_as_the_others_do(store: GristmillVectorStore) -> None:
    async def ask() -> list[Any]:
        query, vector = TEXTS[1], await store.embeddings.aembed_query(TEXTS[1])
        assert await store.embeddings.aembed_documents(TEXTS) == store.embeddings.embed_documents(TEXTS)
        return [
            await store.asimilarity_search(query, k=2),
            await store.asimilarity_search_with_score(query, k=2),
            await store.asimilarity_search_with_relevance_scores(query, k=2),
            await store.asimilarity_search_by_vector(vector, k=2),
            await store.amax_marginal_relevance_search(query, k=2),
            await store.amax_marginal_relevance_search_by_vector(vector, k=2),
            await store.aget_by_ids(["b", "a"]),
            await store.as_retriever(search_kwargs={"k": 2}).ainvoke(query),
        ]

    query, vector = TEXTS[1], store.embeddings.embed_query(TEXTS[1])
    assert asyncio.run(ask()) == [
        store.similarity_search(query, k=2),
        store.similarity_search_with_score(query, k=2),
        store.similarity_search_with_relevance_scores(query, k=2),
        store.similarity_search_by_vector(vector, k=2),
        store.max_marginal_relevance_search(query, k=2),
        store.max_marginal_relevance_search_by_vector(vector, k=2),
        store.get_by_ids(["b", "a"]),
        store.as_retriever(search_kwargs={"k": 2}).invoke(query),
    ]


def test_wrong_arguments_are_named(mill: Client, store: GristmillVectorStore) -> None:
    refused: list[tuple[type[Exception], str, Any]] = [
        (InvalidInput, "limit: expected k, as LangChain calls it", lambda: store.similarity_search("q", limit=3)),
        (InvalidInput, "text: expected True", lambda: store.similarity_search("q", text=False)),
        (InvalidInput, "filter: expected it or where", lambda: store.similarity_search("q", where={}, filter={})),
        (TypeError, "'top_k'; did you mean `limit`", lambda: store.similarity_search("q", top_k=3)),
        (InvalidInput, "metadatas: expected one per text, 2, got 1", lambda: store.add_texts(["a", "b"], [{}])),
        (InvalidInput, "ids: expected one per text, 2, got 1", lambda: store.add_texts(["a", "b"], ids=["1"])),
        (InvalidInput, "texts: expected an iterable of texts", lambda: store.add_texts("text")),
        (SpaceMismatch, "vector: expected 16 numbers", lambda: store.similarity_search_by_vector([1.0])),
        (InvalidInput, "mode: expected one of", lambda: GristmillVectorStore(mill, "c", mode="magic")),
        (TypeError, "'limit'", lambda: GristmillVectorStore(mill, "c", limit=3)),
        (InvalidInput, "client: expected a gristmill.Client", lambda: GristmillEmbeddings("redis://")),  # type: ignore[arg-type]
        (InvalidInput, "collection: ", lambda: GristmillVectorStore(mill)),
    ]
    for kind, words, call in refused:
        with pytest.raises(kind, match=words):
            call()
