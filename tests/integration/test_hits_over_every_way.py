"""One search over gRPC and over REST: the same hits, whatever lies in the payload."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from qdrant_client import models

from gristmill import Boost, Chunking, Client, Document, Hits
from gristmill_schemas import point_id
from gristmill_schemas.validation import SYSTEM_KEY
from places import ways_to
from services import QdrantServer

pytestmark = pytest.mark.server
C = "every-way"
KINDS: dict[str, Any] = {
    "nothing": None,
    "yes": True,
    "no": False,
    "zero": 0,
    "least": -(2**63),
    "most": 2**63 - 1,
    "half": 0.5,
    "tiny": 5e-324,
    "whole": 3.0,
    "empty": "",
    "说明": "退款需要三天 🙂\n\tñ",
    "nested": {"deep": {"er": [1, "two", None, {"three": 3.5}, []]}, "none": {}},
    "list": ["a", 1, None, True, 2.5, ["b"], {"c": None}],
}
LONG = "# Heading\n\n" + " ".join(f"word{n}" for n in range(60))


@pytest.fixture(scope="module")
def ways(qdrant_server: QdrantServer) -> Iterator[tuple[Client, Client]]:
    """Clients of one collection: over gRPC, and over REST alone."""
    options: dict[str, Any] = {"path": qdrant_server.url, "model": "hash:16", "threads": 2}
    with (
        Client.embedded(**options, **ways_to(qdrant_server)) as grpc,
        Client.embedded(**options, **ways_to(qdrant_server, "rest")) as rest,
    ):
        grpc.create_collection(C, chunking=Chunking(size=16, overlap=4, by="markdown", context="headings"))
        few = [Document(id=f"d{n}", text=f"text {n}", metadata={"n": n, "even": n % 2 == 0}) for n in range(12)]
        odd = [Document(id="kinds", text="text of every kind", metadata=KINDS), Document(id="long", text=LONG)]
        grpc.enqueue(C, [*few, *odd]).wait(60).raise_for_failures()
        yield grpc, rest
        grpc.collections.delete(C)


def as_told(hits: Hits) -> list[dict[str, Any]]:
    """All of the hits; scores as float32, which JSON shortens and gRPC does not."""
    return [
        {**each.model_dump(), "score": pytest.approx(each.score, rel=1e-6), "best_chunks": len(each.best_chunks)}
        for each in hits
    ]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"limit": 3, "offset": 2},
    {"mode": "keyword"},
    {"mode": "hybrid"},
    {"mode": "hybrid", "fusion": "dbsf"},
    {"where": {"n": {"gte": 3}, "even": True}},
    {"fields": ["n", "nested.deep", "说明"]},
    {"fields": [], "text": False},
    {"text": False},
    {"score_threshold": -1.0},
    {"group_by_document": True, "chunks_per_document": 3},
    {"context_chunks": 1},
    {"diversity": 0.5},
    {"diversity": 0.5, "group_by_document": True},
    {"boost": Boost(field="n", weight=0.1)},
    {"exact": True},
    {"ef": 64},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_gives_the_same_hits(ways: tuple[Client, Client], options: dict[str, Any]) -> None:
    grpc, rest = (each.search(C, "text 3", **{"limit": 20, **options}) for each in ways)
    assert grpc
    assert as_told(grpc) == as_told(rest)


def test_documents_like_others_are_the_same(ways: tuple[Client, Client]) -> None:
    for call, given in (
        ("similar", {"document_id": "long"}),
        ("recommend", {"positive": ["d1", {"text": "word2"}], "negative": "d3"}),
        ("recommend", {"positive": {"text": "word2"}}),
        ("search_by_vector", {"vector": [0.25] * 16}),
    ):
        grpc, rest = (getattr(each, call)(C, **given) for each in ways)
        assert grpc
        assert as_told(grpc) == as_told(rest), call


def test_several_queries_have_each_their_own_hits(ways: tuple[Client, Client]) -> None:
    grpc, rest = (each.search_many(C, ["text 3", "word7", "退款"], limit=4) for each in ways)
    assert list(map(as_told, grpc)) == list(map(as_told, rest))


def test_metadata_come_as_they_were_given(ways: tuple[Client, Client]) -> None:
    for client in ways:
        (hit,) = client.search(C, "text", where={"说明": KINDS["说明"]})
        assert hit.metadata == {**KINDS, "whole": 3}
        assert {key: type(value) for key, value in hit.metadata.items() if key != "whole"} == {
            key: type(value) for key, value in KINDS.items() if key != "whole"
        }


def test_records_of_others_and_of_a_newer_gristmill_are_no_hits_and_unknown_fields_do_no_harm(
    qdrant_server: QdrantServer, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for place in ("server", "rest"):
        with Client.embedded(path=qdrant_server.url, model="hash:16", **ways_to(qdrant_server, place)) as client:
            client.create_collection(collection_name)
            client.enqueue(collection_name, [Document(id=f"d{n}", text=f"text {n}") for n in range(6)]).wait(60)
            store = client._parts.store
            fields: list[dict[str, Any]] = [
                {"unknown": {"field": [None]}},
                {"format": 2},
                {"version": "two"},
                {"chunk": 7},
            ]
            for number, more in enumerate(fields):
                store.set_payload(collection_name, more, [point_id(f"d{number}", None)], key=SYSTEM_KEY)
            theirs = models.PointStruct(id=7, vector={"": [1.0] * 16}, payload={"theirs": True})
            store.upsert(collection_name, [theirs])
            store.overwrite_payload(collection_name, {}, [point_id("d4", None)])
            with caplog.at_level(logging.WARNING):
                hits = client.search(collection_name, "text 0", limit=10)
            assert {hit.id for hit in hits} == {"d0", "d5"}
            assert "points that no search shows" in caplog.text
            client.collections.delete(collection_name)
