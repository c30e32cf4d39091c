"""Collections and search, the same tests on Qdrant's local mode and on the real server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from qdrant_client import models

from gristmill import (
    Chunking,
    Client,
    ClientSettings,
    CollectionNotFound,
    CollectionSpec,
    DimensionsNotSupported,
    Document,
    Instruction,
    InvalidInput,
    SpaceMismatch,
)
from gristmill.settings import load_settings
from gristmill.store.connection import open_local_store, open_store, require_server
from gristmill_schemas import Distance, EncoderInfo, Pooling, Templates
from places import PLACES, place_of
from services import QdrantServer


@pytest.fixture(params=PLACES)
def client(request: pytest.FixtureRequest, collection_name: str) -> Iterator[Client]:
    """The whole mill in this process, writing to local mode or to the real server."""
    with Client.embedded(**place_of(request), model="hash:64", threads=4) as mill:
        yield mill


def info(digest: str = "digest-a", dimensions: int = 8) -> EncoderInfo:
    return EncoderInfo(
        model="model-a", digest=digest, pooling=Pooling.MEAN, dimensions=dimensions, min_dimensions=4, max_tokens=64
    )


def test_creating_twice_returns_what_is_there(client: Client, collection_name: str) -> None:
    first = client.create_collection(collection_name, space=info().space())
    again = client.create_collection(collection_name, space=info().space())
    assert again == first


def test_many_that_create_at_once_all_get_the_same(client: Client, collection_name: str) -> None:
    def create(_: int) -> CollectionSpec:
        return client.create_collection(collection_name, space=info().space())

    with ThreadPoolExecutor(8) as pool:
        specs = list(pool.map(create, range(8)))
    assert all(spec == specs[0] for spec in specs)


@pytest.mark.parametrize(
    "other",
    [
        info(digest="digest-b").space(),
        info().space(dimensions=4),
        info().space().model_copy(update={"templates": Templates(document="passage: {text}")}),
        info().space().model_copy(update={"pooling": Pooling.CLS}),
        info().space().model_copy(update={"normalize": False}),
    ],
    ids=["model", "dimensions", "template", "pooling", "normalisation"],
)
def test_vectors_of_two_spaces_never_meet(client: Client, collection_name: str, other: object) -> None:
    client.create_collection(collection_name, space=info().space())
    with pytest.raises(SpaceMismatch, match="cannot be compared"):
        client.create_collection(collection_name, space=other)  # type: ignore[arg-type]  # parametrised


def test_a_renamed_or_copied_model_is_the_same_space(client: Client, collection_name: str) -> None:
    client.create_collection(collection_name, space=info().space())
    client.create_collection(collection_name, space=info().space().model_copy(update={"model": "/elsewhere/copy"}))


def test_a_new_collection_compares_as_its_model_was_made_for_unless_told_otherwise(
    client: Client, collection_name: str
) -> None:
    client._parts.ledger.announce(info().model_copy(update={"distance": Distance.DOT, "normalize": False}))
    assert client.create_collection(f"{collection_name}-as-made", "model-a").distance is Distance.DOT
    told = client.create_collection(f"{collection_name}-as-told", "model-a", distance="cosine")
    assert told.distance is Distance.COSINE


def test_undeclared_dimensions_are_refused_unless_forced() -> None:
    plain = info().model_copy(update={"min_dimensions": None})
    with pytest.raises(DimensionsNotSupported, match="declares only its full size 8, got 4"):
        plain.space(4)
    assert plain.space(4, force=True).dimensions == 4
    with pytest.raises(DimensionsNotSupported, match="expected 1 to 8"):
        plain.space(16, force=True)


def test_a_collection_that_is_not_ours_is_left_alone(client: Client, collection_name: str) -> None:
    client._parts.store.create_collection(
        collection_name, vectors_config=models.VectorParams(size=8, distance=models.Distance.DOT)
    )
    with pytest.raises(InvalidInput, match="not made by Gristmill"):
        client.create_collection(collection_name, space=info().space())
    assert collection_name not in [spec.name for spec in client.collections.list()]


def test_an_absent_collection_is_said_to_be_absent(client: Client, collection_name: str) -> None:
    for call in (client.collections.get, client.collections.delete):
        with pytest.raises(CollectionNotFound, match=collection_name):
            call(collection_name)


def test_the_server_version_is_checked(qdrant_server: QdrantServer) -> None:
    store = open_store(
        load_settings(ClientSettings, qdrant_url=qdrant_server.url, qdrant_grpc_port=qdrant_server.grpc_port)
    )
    assert require_server(store).startswith("1.16")
    store.close()


def test_every_operation_passes_a_server_in_strict_mode(qdrant_server: QdrantServer, collection_name: str) -> None:
    """Hosted servers refuse filters on payload that is not indexed."""
    port = qdrant_server.grpc_port
    with Client.embedded(qdrant_server.url, qdrant_grpc_port=port, model="hash:64", threads=4) as mill:
        mill.create_collection(collection_name, chunking=Chunking(size=16, overlap=2))
        mill._parts.store.update_collection(
            collection_name,
            strict_mode_config=models.StrictModeConfig(
                enabled=True, unindexed_filtering_retrieve=False, unindexed_filtering_update=False
            ),
        )
        documents = [{"id": str(n), "text": f"document {n} " * (1 + 9 * (n % 3)), "tenant": "t"} for n in range(20)]
        assert mill.enqueue(collection_name, documents).wait(60).stored == 20
        assert mill.enqueue(collection_name, documents).wait(60).skipped == 20
        changed = [{**each, "metadata": {"new": True}} for each in documents]
        assert mill.enqueue(collection_name, changed).wait(60).stored == 20
        shorter = [{**each, "text": "short now"} for each in documents]
        job = mill.enqueue(collection_name, shorter)
        assert job.wait(60).stored == 20
        assert mill.collections.count(collection_name) == 20
        theirs = models.PointStruct(id=1, vector=[1.0] * 64, payload={"theirs": True})
        mill._parts.store.upsert(collection_name, [theirs], wait=True)
        for grouped in (False, True):
            found = mill.search(collection_name, "short now", limit=20, group_by_document=grouped)
            assert len(found) == 20, "another tool's point is left out of the answer, and not in place of a hit"
            assert len(mill.search(collection_name, "short now", tenant="t", limit=5)) == 5
        mill._parts.store.delete(collection_name, [1], wait=True)
        assert mill.delete(collection_name, ["0", "1"], tenant="t").wait(60).deleted == 2
        assert mill.delete_where(collection_name, job=job.id).wait(60).deleted == 18
        assert mill.collections.count(collection_name) == 0


def test_search_speaks_of_instructions_by_name_and_version() -> None:
    with Client.embedded(model="hash:64") as client:
        client.create_collection(
            "faq",
            instructions=[
                Instruction(name="faq", version=1, text="old wording"),
                Instruction(name="faq", version=2, text="new wording"),
            ],
        )
        client.enqueue("faq", [Document(id="a", text="new wording\nquestion")]).wait(60)
        by_name = client.search("faq", "question", instruction="faq")[0]
        assert by_name.instruction == "faq@2"
        # The stand-in encoder finds exact texts only, so a score of 1 shows what text was encoded.
        np.testing.assert_allclose(by_name.score, 1.0, atol=1e-5)
        assert client.search("faq", "question", instruction="faq@1")[0].score < 0.9
        assert client.search("faq", "question", instruction="free text")[0].instruction == "free text"
        with pytest.raises(InvalidInput, match=r"got .faq@3.; collection .faq. has faq@1, faq@2"):
            client.search("faq", "question", instruction="faq@3")


@pytest.mark.parametrize(
    ("query", "message"),
    [("", "empty or blank"), ("a\0", "NUL"), ("\ud800", "lone surrogate"), ("x" * 70_000, "at most 65536 bytes")],
)
def test_a_bad_query_is_refused_before_it_costs_anything(query: str, message: str) -> None:
    with Client.embedded(model="hash:64") as client, pytest.raises(InvalidInput, match=message):
        client.search("anything", query)


def test_long_documents_are_found_once_when_grouped() -> None:
    with Client.embedded(model="hash:64") as client:
        client.create_collection("long", chunking=Chunking(size=16, overlap=4))
        text = " ".join(f"word{n}" for n in range(100))
        report = client.enqueue("long", [Document(id="a", text=text), Document(id="b", text="short")]).wait(60)
        assert report.chunks > 5
        hits = client.search("long", "word3", limit=10)
        assert len({hit.id for hit in hits}) == 2
        assert len(hits) > 2
        for hit in hits:
            start, end = hit.span
            assert hit.text == (text if hit.id == "a" else "short")[start:end]
        grouped = client.search("long", "word3", limit=10, group_by_document=True)
        assert sorted(hit.id for hit in grouped) == ["a", "b"]


def test_a_local_store_is_safe_for_threads(tmp_path: object) -> None:
    store = open_local_store(":memory:")
    store.create_collection("c", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.upsert("c", [models.PointStruct(id=n, vector=[1.0, n])]), range(200)))
    assert store.count("c").count == 200
    store.close()
