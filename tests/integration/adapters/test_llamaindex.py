"""A Gristmill collection under LlamaIndex: nodes with their relationships, every mode and filter, in local mode and not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.schema import Document, IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from gristmill import Chunking, Client, DocumentsFailed, InvalidInput, LongTexts, SpaceMismatch
from gristmill.adapters.llamaindex import GristmillEmbedding, GristmillVectorStore

SOURCES = [Document(id_=f"doc-{n}", text=f"source {n}") for n in range(2)]
TEXTS = ["退款需要几天到账", "用了优惠券但没减钱", "invoice pdf 4711", "how to reset a password"]
TAGS: list[Any] = [["refund", "bank"], ["coupon"], ["refund"], []]


def nodes() -> list[TextNode]:
    made = [
        TextNode(
            id_=f"n{n}", text=text, metadata={"n": n, "lang": "zh" if n < 2 else "en", "tags": TAGS[n], "title": text}
        )
        for n, text in enumerate(TEXTS)
    ]
    for n, node in enumerate(made):
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"doc-{n % 2}")
    made[0].relationships[NodeRelationship.NEXT] = made[1].as_related_node_info()
    return made


@pytest.fixture
def store(mill: Client, empty: str) -> GristmillVectorStore:
    held = GristmillVectorStore(mill, collection=empty)
    assert held.add(nodes()) == ["n0", "n1", "n2", "n3"]
    return held


def found(store: GristmillVectorStore, text: str | None = TEXTS[0], top: int = 4, **query: Any) -> list[str]:
    return list(store.query(VectorStoreQuery(query_str=text, similarity_top_k=top, **query)).ids or [])


def test_an_index_takes_chinese_nodes_and_gives_them_back_with_their_relationships(mill: Client, empty: str) -> None:
    store = GristmillVectorStore(mill, collection=empty, instruction="Find the answer to it")
    index = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=1))
    index.insert_nodes(nodes())
    retriever = GristmillVectorStore(mill, collection=empty)
    fresh = VectorStoreIndex.from_vector_store(retriever, embed_model=MockEmbedding(embed_dim=1))
    (best,) = fresh.as_retriever(similarity_top_k=1).retrieve("退款需要几天到账")
    assert best.score == pytest.approx(1.0)
    assert (best.node.node_id, best.node.get_content()) == ("n0", "退款需要几天到账")
    assert best.node.metadata == nodes()[0].metadata
    assert best.node.relationships == nodes()[0].relationships
    index.delete_ref_doc("doc-0")
    assert {each.node_id for each in store.get_nodes()} == {"n1", "n3"}
    index.insert(Document(id_="doc-9", text="一篇新的文章"))
    assert [each.ref_doc_id for each in store.get_nodes() if each.ref_doc_id not in ("doc-1", None)] == ["doc-9"]


def test_every_mode_is_a_search_of_ours_or_refused_by_its_name(mill: Client, store: GristmillVectorStore) -> None:
    assert found(store, top=1) == ["n0"]
    by_vector = mill.embed(TEXTS[1], collection=store.collection).tolist()
    assert found(store, None, top=1, query_embedding=by_vector) == ["n1"]
    varied = mill.search(store.collection, TEXTS[0], limit=3, diversity=0.7, group_by_document=True)
    assert found(store, top=3, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.3) == [hit.id for hit in varied]
    assert found(store, None, top=2, mode=VectorStoreQueryMode.MMR, query_embedding=by_vector)[0] == "n1"
    words: list[Any] = [VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.HYBRID]
    for mode in words:
        assert "n2" in found(store, "4711", top=2, mode=mode)
    assert len(found(store, "4711", top=1, mode=VectorStoreQueryMode.HYBRID, hybrid_top_k=3, sparse_top_k=50)) == 3
    hybrid = GristmillVectorStore(mill, collection=store.collection, mode="hybrid")
    assert found(hybrid, "4711", top=3) == found(store, "4711", top=3, mode=VectorStoreQueryMode.HYBRID)
    for mode in ("svm", "logistic_regression", "linear_regression", "semantic_hybrid"):
        with pytest.raises(InvalidInput, match=f"mode: expected one of default, hybrid.*got '{mode}'"):
            found(store, mode=VectorStoreQueryMode(mode))


@pytest.mark.parametrize(
    ("operator", "key", "value", "expected"),
    [
        ("==", "n", 1, {"n1"}),
        ("!=", "n", 1, {"n0", "n2", "n3"}),
        (">", "n", 1, {"n2", "n3"}),
        (">=", "n", 1, {"n1", "n2", "n3"}),
        ("<", "n", 1, {"n0"}),
        ("<=", "n", 1, {"n0", "n1"}),
        ("in", "lang", ["en", "fr"], {"n2", "n3"}),
        ("nin", "n", [0, 1], {"n2", "n3"}),
        ("any", "tags", ["coupon", "bank"], {"n0", "n1"}),
        ("all", "tags", ["refund", "bank"], {"n0"}),
        ("contains", "tags", "refund", {"n0", "n2"}),
        ("text_match", "title", "invoice", {"n2"}),
        ("is_empty", "tags", None, {"n3"}),
    ],
)
def test_every_operator_means_what_llamaindex_says(
    store: GristmillVectorStore, operator: str, key: str, value: Any, expected: set[str]
) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(operator))])
    assert set(found(store, filters=filters)) == expected
    assert {each.node_id for each in store.get_nodes(filters=filters)} == expected


def test_no_operator_is_forgotten() -> None:
    asked = test_every_operator_means_what_llamaindex_says.pytestmark[0].args[1]
    assert {each[0] for each in asked} | {"text_match_insensitive"} == {each.value for each in FilterOperator}


def test_filters_are_joined_nested_and_turned_around(mill: Client, store: GristmillVectorStore) -> None:
    first, last = (MetadataFilter(key="n", value=n) for n in (0, 3))
    chinese = MetadataFilter(key="lang", value="zh")
    either = MetadataFilters(filters=[first, last], condition=FilterCondition.OR)
    assert set(found(store, filters=either)) == {"n0", "n3"}
    assert set(found(store, filters=MetadataFilters(filters=[either, chinese]))) == {"n0"}
    neither = MetadataFilters(filters=[first, last], condition=FilterCondition.NOT)
    assert set(found(store, filters=neither)) == {"n1", "n2"}
    assert set(found(store, filters=neither, doc_ids=["doc-0"])) == {"n2"}
    assert set(found(store, node_ids=["n1", "n3"], doc_ids=["doc-1"])) == {"n1", "n3"}
    bound = GristmillVectorStore(mill, collection=store.collection, where={"lang": "zh"})
    assert set(found(bound)) == {"n0", "n1"}
    assert set(found(bound, filters=MetadataFilters(filters=[last]))) == set()


def test_nodes_are_deleted_by_id_filter_document_or_all(mill: Client, store: GristmillVectorStore) -> None:
    english = MetadataFilters(filters=[MetadataFilter(key="lang", value="en")])
    store.delete_nodes([])
    store.delete_nodes(["n0", "absent", "n2"], english)
    assert [each.node_id for each in store.get_nodes(["n3", "n2", "n0", "n1"])] == ["n3", "n0", "n1"]
    store.delete_nodes(filters=english)
    assert {each.node_id for each in store.get_nodes()} == {"n0", "n1"}
    with pytest.raises(InvalidInput, match=r"node_ids: expected ids or filters, got neither; clear\(\)"):
        store.delete_nodes()
    store.delete("doc-1")
    assert {each.node_id for each in store.get_nodes()} == {"n0"}
    store.clear()
    assert mill.count(store.collection) == 0


def test_a_long_node_is_found_by_its_parts_and_comes_whole_and_once(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, chunking=Chunking(size=16, overlap=4))
    store = GristmillVectorStore(mill, collection=collection_name)
    text = " ".join(f"word{n}" for n in range(60))
    store.add([TextNode(id_="long", text=text)])
    result = store.query(VectorStoreQuery(query_str="word3", similarity_top_k=5))
    assert [node.get_content() for node in result.nodes or ()] == [text]
    mill.collections.delete(collection_name)


def test_a_node_that_cannot_be_stored_raises_by_its_name(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, chunking=Chunking(long_texts=LongTexts.REFUSE))
    store = GristmillVectorStore(mill, collection=collection_name)
    with pytest.raises(DocumentsFailed, match="'too-long' died"):
        store.add([TextNode(id_="fine", text="fine"), TextNode(id_="too-long", text="word " * 600)])
    with pytest.raises(DocumentsFailed, match="'blank'"):
        store.add([TextNode(id_="blank", text=" ")])
    assert [each.node_id for each in store.get_nodes()] == ["fine"]
    mill.collections.delete(collection_name)


def test_metadata_are_embedded_where_that_is_asked_for_and_are_read_as_they_are_now(mill: Client, empty: str) -> None:
    store = GristmillVectorStore(mill, collection=empty, embed_metadata=True)
    node = TextNode(id_="1", text="body", metadata={"title": "heading"})
    store.add([node, IndexNode(id_="2", text="of an index", index_id="other")])
    assert found(store, "title: heading\n\nbody", top=1) == ["1"]
    mill.update_metadata(empty, "1", {"title": "new", "more": 1}).wait().raise_for_failures()
    first, second = store.get_nodes(["1", "2"])
    assert (first.get_content(), first.metadata) == ("body", {"title": "new", "more": 1})
    assert isinstance(second, IndexNode)
    assert second.index_id == "other"
    mill.enqueue(empty, {"id": "3", "text": "of no LlamaIndex", "metadata": {"k": 1}}).wait().raise_for_failures()
    (other,) = store.get_nodes(["3"])
    assert (other.get_content(), other.metadata) == ("of no LlamaIndex", {"k": 1})


def test_a_store_of_a_tenant_is_its_alone(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, tenants=True)
    acme, evil = (GristmillVectorStore(mill, collection=collection_name, tenant=each) for each in ("acme", "evil"))
    acme.add([TextNode(id_="1", text="plan of acme")])
    evil.add([TextNode(id_="1", text="plan of evil")])
    assert [node.get_content() for node in acme.query(VectorStoreQuery(query_str="plan of evil")).nodes or ()] == [
        "plan of acme"
    ]
    acme.clear()
    assert (acme.get_nodes(), len(evil.get_nodes())) == ([], 1)
    mill.collections.delete(collection_name)


def test_the_embedding_is_the_collections_and_an_index_may_embed_queries_by_it(
    mill: Client, store: GristmillVectorStore
) -> None:
    embedding = GristmillEmbedding(mill, collection=store.collection, instruction="Find the answer to it")
    told = {"collection": store.collection, "instruction": "Find the answer to it"}
    assert embedding.get_query_embedding("q") == mill.embed("q", **told).tolist()  # type: ignore[arg-type]  # all are texts
    documents = mill.embed(TEXTS, collection=store.collection, kind="document").tolist()
    assert embedding.get_text_embedding_batch(TEXTS) == documents
    assert embedding.get_text_embedding(TEXTS[0]) == pytest.approx(documents[0])

    async def ask() -> list[Any]:
        return [await embedding.aget_query_embedding("q"), *await embedding.aget_text_embedding_batch(TEXTS)]

    assert asyncio.run(ask())[1:] == documents
    plain = GristmillEmbedding(mill, collection=store.collection)
    asking = GristmillVectorStore(mill, collection=store.collection, is_embedding_query=True)
    index = VectorStoreIndex.from_vector_store(asking, embed_model=plain)
    assert [each.node.node_id for each in index.as_retriever(similarity_top_k=1).retrieve(TEXTS[1])] == ["n1"]
    wrong = VectorStoreIndex.from_vector_store(asking, embed_model=MockEmbedding(embed_dim=1))
    with pytest.raises(SpaceMismatch, match="vector: expected 16 numbers"):
        wrong.as_retriever().retrieve("q")


def test_asyncios_calls_answer_as_the_others_do(mill: Client, empty: str) -> None:
    store = GristmillVectorStore(mill, collection=empty)
    english = MetadataFilters(filters=[MetadataFilter(key="lang", value="en")])

    async def use() -> None:
        assert await store.async_add(nodes()) == ["n0", "n1", "n2", "n3"]
        query = VectorStoreQuery(query_str=TEXTS[1], similarity_top_k=3)
        assert await store.aquery(query) == store.query(query)
        assert await store.aget_nodes(["n2", "n0"]) == store.get_nodes(["n2", "n0"])
        assert await store.aget_nodes(filters=english) == store.get_nodes(filters=english)
        await store.adelete_nodes(["n0"])
        await store.adelete("doc-1")
        assert [each.node_id for each in await store.aget_nodes()] == ["n2"]
        await store.aclear()
        assert await store.aget_nodes() == []

    asyncio.run(use())


def test_what_has_no_counterpart_is_refused_by_its_name(mill: Client, store: GristmillVectorStore) -> None:
    def of(operator: str, value: Any) -> MetadataFilters:
        return MetadataFilters(filters=[MetadataFilter(key="title", value=value, operator=FilterOperator(operator))])

    refused: list[tuple[type[Exception], str, Any]] = [
        (InvalidInput, "alpha: expected None", lambda: found(store, mode=VectorStoreQueryMode.HYBRID, alpha=0.3)),
        (InvalidInput, "output_fields: expected None", lambda: found(store, output_fields=["n"])),
        (InvalidInput, "query_str: expected a text", lambda: found(store, None)),
        (InvalidInput, "mmr_threshold: ", lambda: found(store, mode=VectorStoreQueryMode.MMR, mmr_threshold=3.0)),
        (
            InvalidInput,
            "filters.title: operator 'text_match_insensitive'",
            lambda: found(store, filters=of("text_match_insensitive", "x")),
        ),
        (
            InvalidInput,
            "filters.title: expected a list with operator 'in'",
            lambda: found(store, filters=of("in", "x")),
        ),
        (
            InvalidInput,
            "filters.title: expected one value with operator '=='",
            lambda: found(store, filters=of("==", ["x"])),
        ),
        (InvalidInput, "limit: expected nothing", lambda: store.query(VectorStoreQuery(query_str="q"), limit=3)),
        (InvalidInput, "lens: expected None, since collection", lambda: found(store, embedding_field="legal")),
        (TypeError, "'limit'", lambda: GristmillVectorStore(mill, collection="c", limit=3)),
        (InvalidInput, "client: expected a gristmill.Client", lambda: GristmillVectorStore(5, collection="c")),  # type: ignore[arg-type]
    ]
    for kind, words, call in refused:
        with pytest.raises(kind, match=words):
            call()
