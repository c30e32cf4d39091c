"""Audits: exactly what is missing, stale or damaged is named, and with repair exactly that is stored again."""

from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from gristmill import AuditReport, Chunking, Client, Document, Gap, LongTexts, ReceiptState
from gristmill_schemas import point_id
from gristmill_schemas.point import CHUNK_PATH
from gristmill_schemas.validation import SYSTEM_KEY
from places import ways_to
from services import QdrantServer

LONG = " ".join(f"word{n}" for n in range(100))


def documents(count: int) -> list[Document]:
    return [Document(id=f"d{n}", text=f"text number {n}", metadata={"n": n}) for n in range(count)]


def store_of(client: Client) -> QdrantClient:
    return client._parts.store


def lose(client: Client, name: str, ids: list[str]) -> None:
    """Delete points behind everybody's back."""
    chosen: Any = models.PointIdsList(points=list(ids))
    store_of(client).delete(name, points_selector=chosen, wait=True)


def change(client: Client, name: str, point: str, **system: Any) -> None:
    """Change our part of a point's payload behind everybody's back."""
    store_of(client).set_payload(name, payload=system, key=SYSTEM_KEY, points=[point], wait=True)


def repaired(client: Client, report: AuditReport) -> AuditReport:
    """Wait for what a repair enqueued, and audit again."""
    if report.job_id is not None:
        assert client.jobs.get(report.job_id).wait(60).dead == 0
    return client.audit(report.collection)


def test_what_was_stored_has_no_gaps(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [*documents(150), Document(id="long", text=LONG)]).wait(60)
    report = client.audit(collection_name, documents(150))
    assert (report.expected, report.documents, report.gaps) == (151, 151, 0)
    assert report.points > report.documents
    assert report.fingerprint == client.collections.get(collection_name).space.fingerprint


def test_repair_enqueues_exactly_what_was_lost(client: Client, collection_name: str) -> None:
    docs = documents(500)
    client.enqueue(collection_name, docs).wait(60)
    lost = [f"d{n}" for n in range(0, 500, 100)]
    lose(client, collection_name, [point_id(each, None) for each in lost])
    report = client.audit(collection_name, docs, repair=True)
    assert (report.missing, report.repaired, report.left) == (5, 5, 0)
    assert sorted(finding.id or "" for finding in report.findings) == sorted(lost)
    assert report.job_id is not None
    assert client.jobs.get(report.job_id).wait(60).stored == 5
    assert client.audit(collection_name, docs).gaps == 0


def test_without_the_callers_documents_the_roster_names_what_is_lost(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [*documents(50), Document(id="t", text="theirs", tenant="acme")]).wait(60)
    lose(client, collection_name, [point_id("d7", None), point_id("t", "acme")])
    report = client.audit(collection_name, repair=True)
    assert (report.missing, report.repaired, report.left, report.job_id) == (2, 0, 2, None)
    assert {(finding.id, finding.tenant) for finding in report.findings} == {("d7", None), ("t", "acme")}
    assert client.receipt(collection_name, "d7").state is ReceiptState.LOST


@pytest.mark.parametrize("chunk", [0, 1, -1])
@pytest.mark.parametrize("version", [None, 7])
def test_a_document_with_a_missing_chunk_is_stored_again_whole(
    client: Client, collection_name: str, chunk: int, version: int | None
) -> None:
    long = Document(id="long", text=LONG, version=version)
    client.enqueue(collection_name, [long, *documents(3)]).wait(60)
    chunks = client.receipt(collection_name, "long").point_ids
    assert len(chunks) > 3
    lose(client, collection_name, [chunks[chunk]])
    report = client.audit(collection_name, [long], repair=True)
    assert (report.gaps, report.left) == (1, 0)
    assert report.findings[0].id == "long"
    assert repaired(client, report).gaps == 0
    assert client.receipt(collection_name, "long").point_ids == chunks
    assert store_of(client).count(collection_name, exact=True).count == len(chunks) + 3


def test_a_damaged_document_stays_searchable_until_it_is_replaced(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [Document(id="long", text=LONG)]).wait(60)
    chunks = client.receipt(collection_name, "long").point_ids
    lose(client, collection_name, [chunks[2]])
    report = client.audit(collection_name, repair=True)
    assert (report.incomplete, report.left) == (1, 1), "the text of the lost chunk is nowhere"
    assert store_of(client).count(collection_name, exact=True).count == len(chunks) - 1


def test_an_incomplete_document_shows_without_roster_and_files(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [Document(id="long", text=LONG), Document(id="other", text=LONG)]).wait(60)
    client._parts.evidence.forget(client.collections.get(collection_name).key)
    lose(client, collection_name, [point_id("long", None, 0), point_id("other", None, 1)])
    report = client.audit(collection_name)
    assert report.expected == 0
    assert {(finding.id, finding.gap) for finding in report.findings} == {
        ("long", Gap.INCOMPLETE),
        ("other", Gap.INCOMPLETE),
    }


def test_vectors_of_another_space_are_encoded_again_from_their_own_texts(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [Document(id="long", text=LONG, metadata={"a": 1}), *documents(3)]).wait(60)
    for point in client.receipt(collection_name, "long").point_ids:
        change(client, collection_name, point, space="0123456789abcdef")
    report = client.audit(collection_name, repair=True)
    assert (report.wrong_space, report.repaired) == (1, 1), "all its chunks are there, so its text is"
    assert repaired(client, report).gaps == 0
    assert client.receipt(collection_name, "long").state is ReceiptState.STORED


def test_an_older_version_than_was_accepted_is_stale(client: Client, collection_name: str) -> None:
    newest = Document(id="a", text="two", version=2)
    client.enqueue(collection_name, [Document(id="a", text="one", version=1)]).wait(60)
    client.enqueue(collection_name, [newest]).wait(60)
    change(client, collection_name, point_id("a", None), version=1, text_hash="of something older")
    assert client.audit(collection_name).stale == 1
    report = client.audit(collection_name, [newest], repair=True)
    assert (report.stale, report.repaired) == (1, 1)
    assert repaired(client, report).gaps == 0
    assert client.receipt(collection_name, "a").stored_version == 2


def test_the_callers_newer_text_is_stored_and_a_newer_one_in_qdrant_stays(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [Document(id="a", text="one"), Document(id="b", text="new", version=9)]).wait(60)
    given = [Document(id="a", text="two"), Document(id="b", text="old", version=3)]
    report = client.audit(collection_name, given, repair=True)
    assert [(finding.id, finding.gap) for finding in report.findings] == [("a", Gap.STALE)]
    assert repaired(client, report).gaps == 0
    assert client.receipt(collection_name, "b").stored_version == 9


def test_what_the_roster_has_lost_is_told_and_put_back_on_it(client: Client, collection_name: str) -> None:
    """Redis was lost, or restored from an older copy: an audit without gaps would say that nothing can be missing."""
    client.enqueue(
        collection_name, [*documents(3), Document(id="long", text=LONG), Document(id="t", text="t", tenant="acme")]
    ).wait(60)
    client._parts.evidence.forget(client.collections.get(collection_name).key)
    report = client.audit(collection_name)
    assert (report.expected, report.gaps, report.unlisted, report.listed) == (0, 0, 5, 0)
    assert client.audit(collection_name, tenant="acme", repair=True).listed == 1
    assert client.audit(collection_name, repair=True).listed == 4
    lose(client, collection_name, [point_id("d1", None)])
    report = client.audit(collection_name)
    assert (report.expected, report.missing, report.unlisted) == (5, 1, 0)


def test_a_document_whose_deletion_is_on_its_way_is_not_put_back_on_the_roster(
    client: Client, collection_name: str
) -> None:
    client.enqueue(collection_name, documents(2)).wait(60)
    spec = client.collections.get(collection_name)
    client._parts.ledger.rest(spec.space.model_digest, collection_name, 60)
    client.delete(collection_name, ["d0"])
    evidence = client._parts.evidence
    version = evidence.rostered(spec.key, "d0", None)
    assert version is not None, "until the deletion is done"
    evidence.withdraw(spec.key, "d0", None, version)
    report = client.audit(collection_name, repair=True)
    assert (report.documents, report.unlisted, report.listed) == (2, 0, 0)
    assert [each.id for each in evidence.roster(spec.key)] == ["d1"]


def test_leftover_chunks_are_deleted_and_nothing_else(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [Document(id="long", text=LONG, version=1)]).wait(60)
    extra = store_of(client).retrieve(
        collection_name, [point_id("long", None, 5)], with_payload=True, with_vectors=True
    )[0]
    client.enqueue(collection_name, [Document(id="long", text="short now", version=2), *documents(3)]).wait(60)
    vector: Any = extra.vector
    store_of(client).upsert(
        collection_name, [models.PointStruct(id=extra.id, vector=vector, payload=extra.payload)], wait=True
    )
    report = client.audit(collection_name)
    assert (report.leftover, report.left) == (1, 1)
    report = client.audit(collection_name, repair=True)
    assert (report.leftover, report.repaired, report.left) == (1, 1, 0)
    assert client.audit(collection_name).gaps == 0
    assert store_of(client).count(collection_name, exact=True).count == 4


def test_a_document_that_came_back_after_its_deletion_is_found_and_deleted(
    client: Client, collection_name: str
) -> None:
    """What a worker leaves that has lost its lease, writes after a deletion and dies before it can clean up."""
    client.enqueue(collection_name, [Document(id="gone", text="old", version=1), *documents(3)]).wait(60)
    kept = store_of(client).retrieve(collection_name, [point_id("gone", None)], with_payload=True, with_vectors=True)[0]
    client.delete(collection_name, ["gone"], version=2).wait(60)
    vector: Any = kept.vector
    store_of(client).upsert(
        collection_name, [models.PointStruct(id=kept.id, vector=vector, payload=kept.payload)], wait=True
    )
    report = client.audit(collection_name)
    assert (report.revived, report.left) == (1, 1)
    assert [finding.id for finding in report.findings] == ["gone"]
    report = client.audit(collection_name, repair=True)
    assert (report.revived, report.repaired, report.left) == (1, 1, 0)
    assert client.audit(collection_name).gaps == 0
    assert store_of(client).count(collection_name, exact=True).count == 3


def test_points_that_are_not_ours_are_named_and_left_alone(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, documents(3)).wait(60)
    foreign = models.PointStruct(id=1, vector=[1.0] * 16, payload={"theirs": True})
    store_of(client).upsert(collection_name, [foreign], wait=True)
    report = client.audit(collection_name, repair=True)
    assert (report.foreign, report.left, report.documents) == (1, 1, 3)
    assert report.findings[0].point_id == "1"
    assert store_of(client).count(collection_name, exact=True).count == 4


def test_a_foreign_payload_on_our_point_is_replaced(client: Client, collection_name: str) -> None:
    docs = documents(3)
    client.enqueue(collection_name, docs).wait(60)
    store_of(client).overwrite_payload(collection_name, {"theirs": True}, points=[point_id("d1", None)], wait=True)
    report = client.audit(collection_name, docs, repair=True)
    assert report.missing == 1
    assert repaired(client, report).gaps == 0


def test_deleted_documents_are_no_gap_even_if_the_caller_still_has_them(client: Client, collection_name: str) -> None:
    docs = documents(10)
    client.enqueue(collection_name, docs).wait(60)
    client.delete(collection_name, ["d3"]).wait(60)
    assert client.audit(collection_name).gaps == 0
    report = client.audit(collection_name, docs, repair=True)
    assert (report.deleted, report.gaps, report.job_id) == (1, 0, None)
    assert client.receipt(collection_name, "d3").state is ReceiptState.DELETED


def test_dead_documents_are_no_gap_until_their_letters_are_dropped(client: Client, collection_name: str) -> None:
    name = f"{collection_name}-refusing"
    client.create_collection(name, chunking=Chunking(long_texts=LongTexts.REFUSE))
    docs = [*documents(5), Document(id="bad", text="word " * 20_000)]
    assert client.enqueue(name, docs).wait(60).dead == 1
    report = client.audit(name, docs, repair=True)
    assert (report.dead, report.gaps) == (1, 0)
    receipt = client.receipt(name, "bad")
    assert receipt.state is ReceiptState.DEAD
    assert "dead replay" in (receipt.reason or "")
    client.dead.drop([letter.id for letter in client.dead.list()])
    assert client.audit(name).gaps == 0, "dropping a letter gives its document up"
    assert client.audit(name, docs).missing == 1, "though the caller still misses it"


def test_pending_documents_are_in_flight_and_not_missing(
    client: Client, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client._parts.dispatcher, "publish", lambda *_: None)
    job = client.enqueue(collection_name, documents(100))
    report = client.audit(collection_name, documents(101), repair=False)
    assert (report.in_flight, report.missing) == (100, 1)
    assert report.findings[0].id == "d100"
    receipt = client.receipt(collection_name, "d5")
    assert (receipt.state, receipt.job_id) == (ReceiptState.PENDING, job.id)


def test_a_collection_made_anew_under_an_old_name_starts_with_an_empty_roster(
    client: Client, collection_name: str
) -> None:
    client.enqueue(collection_name, documents(5)).wait(60)
    client.collections.delete(collection_name)
    client.create_collection(collection_name)
    assert client.audit(collection_name).gaps == 0


def test_a_receipt_says_what_became_of_a_document(client: Client, collection_name: str) -> None:
    job = client.enqueue(collection_name, [Document(id="long", text=LONG, version=5)])
    report = job.wait(60)
    receipt = client.receipt(collection_name, "long")
    assert (receipt.state, receipt.version, receipt.stored_version) == (ReceiptState.STORED, 5, 5)
    assert receipt.chunks == report.chunks
    assert (receipt.job_id, receipt.attempts, receipt.truncated) == (job.id, 1, False)
    assert (receipt.stored_at or 0) > 0
    assert len(receipt.point_ids) == receipt.chunks
    assert client.receipt(collection_name, "long", tenant="other").state is ReceiptState.UNKNOWN


def test_a_repair_that_was_cut_off_is_finished_by_the_next(
    client: Client, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the mark and before the enqueue: the worst moment."""
    long = Document(id="long", text=LONG, version=3)
    client.enqueue(collection_name, [long]).wait(60)
    for point in client.receipt(collection_name, "long").point_ids:
        change(client, collection_name, point, space="0123456789abcdef")
    with monkeypatch.context() as patched:
        patched.setattr(client._intake, "take", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            client.audit(collection_name, repair=True)
    report = client.audit(collection_name, [long], repair=True)
    assert report.repaired == 1
    assert repaired(client, report).gaps == 0


def test_chunk_zero_speaks_for_its_document_in_every_filter_of_deletes(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [Document(id="long", text=LONG, metadata={"lang": "en"}), *documents(3)]).wait(60)
    report = client.delete_where(collection_name, {"lang": "en"}).wait(60)
    assert (report.accepted, report.deleted) == (1, 1)
    chunks = models.Filter(must=[models.FieldCondition(key=CHUNK_PATH, range=models.Range(gte=1))])
    assert store_of(client).count(collection_name, count_filter=chunks, exact=True).count == 0


@pytest.mark.parametrize("vectors", [["bm25"], [""], ["", "bm25"]])
def test_points_without_words_or_vectors_are_named_and_stored_again(
    qdrant_server: QdrantServer, collection_name: str, vectors: list[str]
) -> None:
    with Client.embedded(path=qdrant_server.url, **ways_to(qdrant_server), model="hash:16", threads=2) as client:
        client.create_collection(collection_name, chunking=Chunking(size=20, overlap=0, context="title"))
        titled = Document(id="titled", text=LONG, metadata={"title": "XJ-2000A"})
        client.enqueue(collection_name, [*documents(5), titled, Document(id="wordless", text="!?")]).wait(60)
        damaged: list[Any] = [point_id("d3", None), point_id("titled", None, 2)]
        store_of(client).delete_vectors(collection_name, vectors, points=damaged, wait=True)
        report = client.audit(collection_name)
        assert (report.vectorless, report.gaps, report.left) == (2, 2, 2)
        what = " and ".join(f"vector {name!r}" if name else "vector" for name in vectors)
        assert {finding.id: finding.detail.split(":")[0] for finding in report.findings} == {
            "d3": f"chunk 0 of 1 has no {what}",
            "titled": f"chunk 2 of 5 has no {what}",
        }
        report = client.audit(collection_name, repair=True)
        assert (report.vectorless, report.repaired, report.left) == (2, 2, 0)
        assert repaired(client, report).gaps == 0
        words = client.search(collection_name, "3", mode="keyword")
        assert [hit.id for hit in words] == ["d3"]
        assert client.search(collection_name, "text number 3")[0].id == "d3"
        found = client.search(collection_name, "XJ-2000A", mode="keyword", limit=9)
        assert sorted(hit.chunk for hit in found) == [0, 1, 2, 3, 4]
