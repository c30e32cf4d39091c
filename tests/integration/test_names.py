"""The name that was asked for is the name that is used: aliases, copies, what is made anew (`docs/explanation/names.md`)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

import gristmill_worker.process.embedded
from gristmill import Client, ClientSettings, CollectionNotFound, Document, InvalidInput
from gristmill.settings import load_settings
from gristmill_schemas.errors import NewerFormat
from gristmill_schemas.point import ID_PATH
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from places import PLACES, place_of
from services import QdrantServer


class Doored(HashEncoder):
    """The hash encoder, behind a door."""

    def __init__(self) -> None:
        super().__init__(16)
        self.door, self.at_door = threading.Event(), threading.Event()
        self.door.set()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        self.at_door.set()
        assert self.door.wait(60)
        return super().launch(batch)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Doored:
    made = Doored()
    monkeypatch.setattr(gristmill_worker.process.embedded, "load_encoder", lambda settings: made)
    return made


@pytest.fixture(params=PLACES)
def client(request: pytest.FixtureRequest, encoder: Doored, collection_name: str) -> Iterator[Client]:
    """One task thread; `<name>-one` and `<name>-two`, and the alias `<name>` of the first."""
    with Client.embedded(**place_of(request), threads=1) as mill:
        for number in ("one", "two"):
            mill.create_collection(f"{collection_name}-{number}")
        point_alias(mill, collection_name, f"{collection_name}-one")
        yield mill
        encoder.door.set()


def point_alias(client: Client, alias: str, collection: str) -> None:
    """Let the alias mean the collection from now on, in one step."""
    operations: list[models.AliasOperations] = [
        models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=collection, alias_name=alias))
    ]
    client._parts.store.update_collection_aliases(change_aliases_operations=operations)


def documents(count: int, **fields: Any) -> list[Document]:
    return [Document(id=str(n), text=f"text number {n}", **fields) for n in range(count)]


def counts(client: Client, name: str) -> tuple[int, int]:
    return client.collections.count(f"{name}-one"), client.collections.count(f"{name}-two")


def test_an_alias_works_in_every_call(client: Client, collection_name: str) -> None:
    assert client.enqueue(collection_name, documents(5)).wait(60).stored == 5
    assert counts(client, collection_name) == (5, 0)
    assert client.delete(collection_name, ["0"]).wait(60).deleted == 1
    assert len(client.search(collection_name, "text number 1", limit=10)) == 4
    assert client.collections.count(collection_name) == 4
    spec = client.collections.get(collection_name)
    assert (spec.name, spec.physical) == (collection_name, f"{collection_name}-one")
    for name in (collection_name, f"{collection_name}-one"):
        assert client.receipt(name, "0").state == "deleted"
        assert client.receipt(name, "1").state == "stored"
        report = client.audit(name, documents(5))
        assert (report.documents, report.deleted, report.gaps) == (4, 1, 0)
    with_its_id = models.Filter(must=[models.FieldCondition(key=ID_PATH, match=models.MatchValue(value="1"))])
    assert client.delete_where(collection_name, with_its_id).wait(60).deleted == 1
    assert counts(client, collection_name) == (3, 0)


def test_a_collection_is_not_deleted_through_an_alias(client: Client, collection_name: str) -> None:
    with pytest.raises(InvalidInput, match=f"alias of '{collection_name}-one'"):
        client.collections.delete(collection_name)
    client.collections.delete(f"{collection_name}-one")
    with pytest.raises(CollectionNotFound):
        client.collections.get(collection_name)


def test_a_write_goes_to_what_the_alias_means_when_it_is_claimed_and_the_roster_follows(
    client: Client, encoder: Doored, collection_name: str
) -> None:
    encoder.at_door.clear()
    encoder.door.clear()
    first = client.enqueue(collection_name, [Document(id="first", text="is being encoded")])
    assert encoder.at_door.wait(60)
    second = client.enqueue(collection_name, documents(5))
    point_alias(client, collection_name, f"{collection_name}-two")
    encoder.door.set()
    assert (first.wait(60).stored, second.wait(60).stored) == (1, 5)
    assert counts(client, collection_name) == (1, 5)
    for name, expected in (("one", 1), ("two", 5)):
        report = client.audit(f"{collection_name}-{name}")
        assert (report.expected, report.missing, report.gaps) == (expected, 0, 0)


def test_a_collection_that_was_deleted_and_made_anew_takes_what_was_deleted_in_the_old_one(
    client: Client, collection_name: str
) -> None:
    name = f"{collection_name}-two"
    client.enqueue(name, documents(20, version=1)).wait(60)
    client.delete(name, [str(n) for n in range(20)]).wait(60)
    client.collections.delete(name)
    client.create_collection(name)
    assert client.audit(name).expected == 0
    report = client.enqueue(name, documents(20, version=1)).wait(60)
    assert (report.stored, report.superseded) == (20, 0)


def test_a_collection_of_another_store_that_was_made_anew_behind_our_back_as_well(
    client: Client, collection_name: str
) -> None:
    """Deleted by another tool, so that nobody told the ledger."""
    name = f"{collection_name}-two"
    client.enqueue(name, documents(5, version=1)).wait(60)
    client._parts.store.delete_collection(name)
    client.create_collection(name)
    report = client.audit(name)
    assert (report.expected, report.missing) == (0, 0)


def test_a_dead_letter_explains_a_gap_whatever_name_its_document_was_enqueued_under(
    client: Client, collection_name: str
) -> None:
    place = client.collections.get(f"{collection_name}-one")
    squat(client, place.physical, "a")
    assert client.enqueue(collection_name, [Document(id="a", text="t")]).wait(60).dead == 1
    report = client.audit(place.physical)
    assert (report.dead, report.missing) == (1, 0)
    assert client.receipt(place.physical, "a").state == "dead"


def squat(client: Client, collection: str, document_id: str) -> None:
    """Another tool's point, under the id of one of our documents."""
    from gristmill_schemas import point_id

    point = models.PointStruct(id=point_id(document_id, None), vector=[1.0] * 16, payload={"theirs": True})
    client._parts.store.upsert(collection, [point], wait=True)


def test_a_restored_copy_is_a_collection_of_its_own(qdrant_server: QdrantServer, collection_name: str) -> None:
    """What is written to, searched and deleted in the copy never reaches the original."""
    original, copy = f"{collection_name}-one", f"{collection_name}-copy"
    with Client.embedded(qdrant_server.url, qdrant_grpc_port=qdrant_server.grpc_port, model="hash:16") as client:
        client.create_collection(original)
        client.enqueue(original, documents(5)).wait(60)
        store = client._parts.store
        snapshot = store.create_snapshot(original, wait=True)
        assert snapshot is not None
        path = Path(qdrant_server.data_dir) / "snapshots" / original / snapshot.name
        store.recover_snapshot(copy, location=path.as_uri(), wait=True)
        assert client.collections.get(copy).name == copy
        assert client.enqueue(copy, [Document(id="new", text="only in the copy")]).wait(60).stored == 1
        assert client.delete(copy, ["0", "1"]).wait(60).deleted == 2
        assert (client.collections.count(original), client.collections.count(copy)) == (5, 4)
        assert {hit.id for hit in client.search(copy, "text", limit=10)} == {"2", "3", "4", "new"}
        assert client.audit(original, documents(5)).gaps == 0
        # Deleted in the original only: its tombstone is not the copy's.
        client.delete(original, ["2"]).wait(60)
        touched = client.enqueue(
            copy, [Document(id="2", text="changed", version=client_version(client, copy, "2") + 1)]
        )
        assert touched.wait(60).stored == 1


def client_version(client: Client, collection: str, document_id: str) -> int:
    version = client.receipt(collection, document_id).version
    assert version is not None
    return version


def test_a_collection_of_a_newer_gristmill_is_passed_over_in_lists_and_named_where_it_is_asked_for(
    client: Client, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    newer = f"{collection_name}-two"
    described = client.collections.get(newer).described()
    store = client._parts.store
    store.update_collection(newer, metadata={"gristmill": {**described, "format": 2}})
    with caplog.at_level(logging.WARNING):
        names = [spec.name for spec in client.collections.list()]
    assert f"{collection_name}-one" in names
    assert newer not in names
    assert len([line for line in caplog.messages if newer in line]) == 1
    for call in (client.collections.get, lambda name: client.search(name, "text"), client.audit):
        with pytest.raises(NewerFormat, match="description of a collection: format 2"):
            call(newer)
    store.update_collection(newer, metadata={"gristmill": {**described, "of_tomorrow": {"lens": 1}}})
    assert client.enqueue(newer, documents(1)).wait(60).stored == 1


def test_a_parcel_whose_collection_has_become_a_newer_gristmills_is_given_back_and_not_buried(
    client: Client, encoder: Doored, collection_name: str
) -> None:
    newer = f"{collection_name}-two"
    encoder.at_door.clear()
    encoder.door.clear()
    first = client.enqueue(collection_name, [Document(id="first", text="is being encoded")])
    assert encoder.at_door.wait(60)
    job = client.enqueue(newer, documents(1))
    described = client.collections.get(newer).described()
    client._parts.store.update_collection(newer, metadata={"gristmill": {**described, "format": 2}})
    encoder.door.set()
    first.wait(60)
    assert client.enqueue(collection_name, documents(1)).wait(60).stored == 1, "neighbours go on"
    assert (job.report().dead, job.report().pending) == (0, 1)


def test_a_point_that_claims_to_be_another_is_not_shown(client: Client, collection_name: str) -> None:
    client.create_collection(collection_name)
    client.enqueue(collection_name, {"id": "a", "text": "rye"}).wait(60)
    store = client._parts.store
    (point,), _ = store.scroll(collection_name, with_payload=True, with_vectors=True)
    forged = {**(point.payload or {}), "text": "forged"}
    vector: Any = point.vector
    store.upsert(collection_name, [models.PointStruct(id=7, vector=vector, payload=forged)], wait=True)
    assert [hit.text for hit in client.search(collection_name, "rye")] == ["rye"]


@pytest.mark.server
def test_what_another_tool_deleted_leaves_no_roster_when_it_is_made_anew(
    redis_url: str, qdrant_server: QdrantServer, collection_name: str
) -> None:
    settings = load_settings(
        ClientSettings, redis_url=redis_url, qdrant_url=qdrant_server.url, qdrant_grpc_port=qdrant_server.grpc_port
    )
    space = HashEncoder(16).info.space()
    with Client(settings) as client:
        redis = client._parts.ledger._redis  # type: ignore[attr-defined]  # who counts keys knows no privacy

        def rosters() -> set[str]:
            return {key.decode().split(":")[2] for key in redis.scan_iter("*:roster:*")}

        for _ in range(2):
            made = client.create_collection(collection_name, space=space)
            client.enqueue(collection_name, documents(3))
            assert rosters() == {made.key}
            assert client.create_collection(collection_name, space=space).key == made.key
            assert rosters() == {made.key}
            client._parts.store.delete_collection(collection_name)
        client.create_collection(collection_name, space=space)
        assert rosters() == set()
        client.collections.delete(collection_name)
        assert redis.hlen(next(redis.scan_iter("*:rosters"), "none")) == 0
