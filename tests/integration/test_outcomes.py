"""What an application sees become of its documents: through the client, on local mode and on the real server alike.

What the pipeline does with one parcel is in `test_pipeline.py`; here it is fed by `enqueue`, `delete` and `replay`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import gristmill_worker.process.embedded
from gristmill import Chunking, Client, Document, Job, JobReport
from gristmill_schemas import EncoderInfo, Pooling, point_id
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from places import PLACES, place_of
from services import QdrantServer
from waiting import eventually

LONG = " ".join(f"word{n}" for n in range(60))


class Poisonable(HashEncoder):
    """The hash encoder; texts with a poisonous word raise, and a door holds every batch back until it is opened."""

    def __init__(self) -> None:
        super().__init__(16)
        self.poison: set[str] = set()
        self.encoded: list[str] = []
        self.door = threading.Event()
        self.door.set()
        self.at_door = threading.Event()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        self.at_door.set()
        assert self.door.wait(60)
        texts = [item.text for item in batch]
        if bad := [word for word in self.poison for text in texts if word in text]:
            raise RuntimeError(f"a kernel failed on {bad[0]}")
        self.encoded += texts
        return super().launch(batch)

    def close(self) -> None:
        self.door.set()
        super().close()


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Poisonable:
    """The encoder of every client that is opened in this test."""
    made = Poisonable()
    monkeypatch.setattr(gristmill_worker.process.embedded, "load_encoder", lambda settings: made)
    return made


@pytest.fixture(params=PLACES)
def client(request: pytest.FixtureRequest, encoder: Poisonable, collection_name: str) -> Iterator[Client]:
    """One task thread, so that parcels come one after the other; texts of more than 16 words are cut."""
    with Client.embedded(**place_of(request), threads=1) as mill:
        mill.create_collection(collection_name, chunking=Chunking(size=16, overlap=0))
        yield mill
        encoder.door.set()


@pytest.fixture
def write(client: Client, collection_name: str) -> Callable[..., JobReport]:
    """Write one document `a` and wait for it."""

    def call(
        text: str = "text", version: int | None = None, *, tenant: str | None = None, **metadata: Any
    ) -> JobReport:
        document = Document(id="a", text=text, version=version, tenant=tenant, metadata=metadata)
        return client.enqueue(collection_name, [document]).wait(60)

    return call


Write = Callable[..., JobReport]


def payloads(client: Client, name: str) -> list[dict[str, Any]]:
    """Everything that the collection holds, chunk by chunk."""
    found, _ = client._parts.store.scroll(name, limit=1000, with_payload=True)
    return sorted((point.payload or {} for point in found), key=lambda each: int(each["_gristmill"]["chunk"]))


def texts(client: Client, name: str) -> list[str]:
    return [payload["text"] for payload in payloads(client, name)]


# versions


def test_a_delete_by_filter_leaves_a_document_that_has_ceased_to_match(
    client: Client, collection_name: str, encoder: Poisonable, write: Write
) -> None:
    write("old", n=1)
    encoder.door.clear()
    encoder.at_door.clear()
    update = client.enqueue(collection_name, [Document(id="a", text="new", metadata={"n": 2})])
    assert encoder.at_door.wait(60)
    deletion = client.delete_where(collection_name, {"n": 1})
    encoder.door.set()
    assert (update.wait(60).stored, deletion.wait(60).superseded) == (1, 1)
    assert texts(client, collection_name) == ["new"]


def test_of_two_texts_under_one_version_the_first_stays(client: Client, collection_name: str, write: Write) -> None:
    assert write("first", 4).stored == 1
    assert write("second", 4).superseded == 1
    assert texts(client, collection_name) == ["first"]


def test_documents_without_a_version_are_ordered_by_their_enqueueing(
    client: Client, collection_name: str, write: Write
) -> None:
    assert [write(text).stored for text in ("one", "two", "three")] == [1, 1, 1]
    assert texts(client, collection_name) == ["three"]


def test_new_metadata_under_the_same_text_replaces_the_old_without_the_model(
    client: Client, collection_name: str, encoder: Poisonable, write: Write
) -> None:
    write(LONG, 1, old=1)
    (vector,) = client._parts.store.retrieve(collection_name, [point_id("a", None)], with_vectors=True)
    before = list(encoder.encoded)
    report = write(LONG, 2, new=2)
    assert (report.stored, report.tokens) == (1, 0)
    assert encoder.encoded == before
    held = payloads(client, collection_name)
    assert len(held) > 3
    assert all((each["new"], each["_gristmill"]["version"], "old" in each) == (2, 2, False) for each in held)
    (after,) = client._parts.store.retrieve(collection_name, [point_id("a", None)], with_vectors=True)
    assert after.vector == vector.vector


def test_older_metadata_does_not_come_back(client: Client, collection_name: str, write: Write) -> None:
    write("same", 2, tag="new")
    assert write("same", 1, tag="old").superseded == 1
    assert payloads(client, collection_name)[0]["tag"] == "new"


# deletions


def test_deleting_one_document_twice_in_one_call_counts_both(
    client: Client, collection_name: str, write: Write
) -> None:
    write("one", 1)
    report = client.delete(collection_name, ["a", "a"]).wait(60)
    assert (report.accepted, report.deleted, report.pending) == (2, 2, 0)
    assert texts(client, collection_name) == []


def test_a_deletion_by_filter_spares_what_was_changed_before_it(
    client: Client, collection_name: str, write: Write
) -> None:
    write("one", kind="old")
    write("one", kind="new")
    assert client.delete_where(collection_name, {"kind": "old"}).wait(60).accepted == 0
    assert texts(client, collection_name) == ["one"]


def test_a_deleted_job_can_be_enqueued_again(client: Client, collection_name: str, write: Write) -> None:
    job = write("one").job_id
    assert client.delete_where(collection_name, job=job).wait(60).deleted == 1
    assert write("one").stored == 1
    assert texts(client, collection_name) == ["one"]


# tenants


def test_documents_of_one_id_in_two_tenants_are_two_documents(
    client: Client, collection_name: str, write: Write
) -> None:
    assert [write(f"of {tenant}", 5, tenant=tenant).stored for tenant in (None, "x", "y")] == [1, 1, 1]
    assert sorted(texts(client, collection_name)) == ["of None", "of x", "of y"]
    assert write("newer", 6, tenant="x").stored == 1
    assert write("older", 4, tenant="y").superseded == 1
    assert sorted(texts(client, collection_name)) == ["newer", "of None", "of y"]


def test_two_tenants_may_have_the_same_id_in_one_parcel(client: Client, collection_name: str) -> None:
    documents = [Document(id="a", text=f"{LONG} {tenant}", tenant=tenant) for tenant in ("x", "y")]
    assert client.enqueue(collection_name, documents).wait(60).stored == 2
    shorter = [Document(id="a", text="short", tenant="x")]
    assert client.enqueue(collection_name, shorter).wait(60).stored == 1
    of_y = [each["text"] for each in payloads(client, collection_name) if each["_gristmill"]["tenant"] == "y"]
    assert "".join(of_y) == f"{LONG} y"


# failures


def dead_of(client: Client, name: str) -> list[tuple[str, str]]:
    letters = client.dead.list(collection=name)
    return sorted((letter.document.id, letter.error) for letter in letters if letter.document is not None)


def test_a_bad_version_leaves_the_one_before_it_in_place(
    client: Client, collection_name: str, encoder: Poisonable, write: Write
) -> None:
    encoder.poison = {"arsenic"}
    write("good", 1)
    assert write("arsenic", 2).dead == 1
    assert texts(client, collection_name) == ["good"]


def test_replay_stores_what_was_dead_once_the_cause_is_gone(
    client: Client, collection_name: str, encoder: Poisonable, write: Write
) -> None:
    encoder.poison = {"arsenic"}
    write("arsenic", 3)
    (letter,) = client.dead.list(collection=collection_name)
    (again,) = client.dead.replay([letter.id])
    assert again.wait(60).dead == 1, "the cause is still there"
    encoder.poison = set()
    (letter,) = client.dead.list(collection=collection_name)
    (job,) = client.dead.replay([letter.id])
    assert job.wait(60).stored == 1
    assert client.dead.list(collection=collection_name) == []
    assert payloads(client, collection_name)[0]["_gristmill"]["version"] == 3


def test_replay_does_not_bring_back_what_was_replaced_or_deleted_since(
    client: Client, collection_name: str, encoder: Poisonable, write: Write
) -> None:
    encoder.poison = {"arsenic"}
    write("arsenic", 3)
    client.enqueue(collection_name, [Document(id="b", text="arsenic", version=3)]).wait(60)
    encoder.poison = set()
    write("replaced", 4)
    client.delete(collection_name, ["b"], version=4).wait(60)
    (job,) = client.dead.replay([letter.id for letter in client.dead.list(collection=collection_name)])
    assert job.wait(60).superseded == 2
    assert texts(client, collection_name) == ["replaced"]


def queued_behind_a_running_parcel(client: Client, name: str, encoder: Poisonable) -> list[Job]:
    """Two jobs: one on the model, one that waits for the only thread."""
    encoder.at_door.clear()
    encoder.door.clear()
    jobs = [client.enqueue(name, [Document(id="running", text="running")])]
    assert encoder.at_door.wait(60)
    return [*jobs, client.enqueue(name, [Document(id="queued", text="queued")])]


def test_work_for_a_collection_that_is_deleted_meanwhile_is_gone_with_it(
    client: Client, collection_name: str, encoder: Poisonable
) -> None:
    jobs = queued_behind_a_running_parcel(client, collection_name, encoder)
    client.collections.delete(collection_name)
    encoder.door.set()
    assert [(report.gone, report.dead) for report in (job.wait(60) for job in jobs)] == [(1, 0), (1, 0)]
    assert client.dead.list(collection_name) == []
    assert collection_name not in [spec.name for spec in client.collections.list()]


def test_work_for_a_collection_that_another_models_has_replaced_waits_for_that_model(
    client: Client, collection_name: str, encoder: Poisonable
) -> None:
    _, queued = queued_behind_a_running_parcel(client, collection_name, encoder)
    client.collections.delete(collection_name)
    other = EncoderInfo(
        model="other", digest="other", pooling=Pooling.MEAN, dimensions=16, min_dimensions=1, max_tokens=64
    )
    client.create_collection(collection_name, space=other.space())
    encoder.door.set()
    eventually(lambda: client._parts.ledger.backlog("other"))
    assert (queued.report().pending, queued.report().dead) == (1, 0)


def test_a_store_that_is_away_delays_work_and_costs_no_attempt(
    make_qdrant: Callable[..., QdrantServer], encoder: Poisonable, collection_name: str
) -> None:
    server = make_qdrant()
    with Client.embedded(server.url, qdrant_grpc_port=server.grpc_port, threads=1) as mill:
        mill.create_collection(collection_name)
        running, queued = queued_behind_a_running_parcel(mill, collection_name, encoder)
        server.kill()
        encoder.door.set()
        worker = mill._parts.ledger.workers
        eventually(lambda: any(status["waiting_for"] for status in worker().values()))
        server.start()
        assert (running.wait(60).stored, queued.wait(60).stored) == (1, 1)
        assert {each["_gristmill"].get("attempts", 1) for each in payloads(mill, collection_name)} == {1}
