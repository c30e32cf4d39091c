"""What applications call: one or many, by name, whole documents, failures that say so; on local mode and the real server."""

import logging
from typing import Any

import numpy as np
import pytest

from gristmill import (
    Chunking,
    Client,
    CollectionConflict,
    Document,
    DocumentsFailed,
    EncodingFailed,
    Instruction,
    InvalidInput,
    LongTexts,
    NoWorker,
    SpaceMismatch,
    StoredDocument,
)

#: Cut into chunks between which all kinds of white space lie.
LONG = "\n\n".join(" ".join(f"word{n}\tof {part}" for n in range(9)) + "  \n" for part in "abcdef")


def stored(client: Client, name: str, *documents: Any) -> None:
    client.enqueue(name, documents).wait(60).raise_for_failures()


# one or many


def test_a_string_where_ids_are_meant_is_one_id(client: Client, collection_name: str) -> None:
    stored(client, collection_name, *({"id": each, "text": f"text {each}"} for each in ("4", "2", "42", "7")))
    assert client.delete(collection_name, "42").wait(60).accepted == 1
    assert client.delete(collection_name, 7).wait(60).accepted == 1  # type: ignore[arg-type]  # ids may be integers
    assert [each.id for each in client.get(collection_name, ["4", "2", "42", "7"])] == ["4", "2"]
    assert client.update_metadata(collection_name, "4", {"seen": True}).wait(60).stored == 1


@pytest.mark.parametrize("ids", [b"42", {"42": 1}, None, 4.2, True, Document(id="42", text="t")])
def test_what_is_no_id_is_refused_and_not_taken_apart(client: Client, collection_name: str, ids: Any) -> None:
    for call in (client.delete, client.get):
        with pytest.raises(InvalidInput, match="ids") as refused:
            call(collection_name, ids)
        assert refused.value.field == "ids"


def test_of_many_ids_the_wrong_one_is_named(client: Client, collection_name: str) -> None:
    with pytest.raises(InvalidInput, match=r"ids\[1\]: expected a non-empty id"):
        client.get(collection_name, ["a", ""])


@pytest.mark.parametrize("one", [Document(id="a", text="t"), {"id": "a", "text": "t"}])
def test_one_document_is_enqueued_and_audited_as_one(client: Client, collection_name: str, one: Any) -> None:
    assert client.enqueue(collection_name, one).wait(60).stored == 1
    report = client.audit(collection_name, one)
    assert (report.expected, report.gaps) == (1, 0)


@pytest.mark.parametrize("documents", ["a text", b"bytes", 5, None])
def test_what_is_no_document_is_refused_and_not_taken_apart(
    client: Client, collection_name: str, documents: Any
) -> None:
    with pytest.raises(InvalidInput, match="documents: expected a Document"):
        client.enqueue(collection_name, documents)
    if documents is not None:
        with pytest.raises(InvalidInput, match="expected: expected a Document"):
            client.audit(collection_name, documents)


def test_letters_are_replayed_and_dropped_by_one_id_or_many(client: Client, collection_name: str) -> None:
    name = f"{collection_name}-refusing"
    client.create_collection(name, chunking=Chunking(long_texts=LongTexts.REFUSE))
    texts = [{"id": each, "text": "word " * 9000} for each in ("a", "b", "c")]
    job = client.enqueue(name, texts)
    assert job.wait(60).dead == 3
    letters = client.dead.list(job=job.id)
    assert len(letters) == 3
    assert client.dead.list(job="another") == []
    (again,) = client.dead.replay(letters[0].id)
    assert (again.wait(60).accepted, len(client.dead.list(name))) == (1, 3)
    assert client.dead.drop(letters[1].id) == 1
    assert client.dead.drop([letters[2].id, "unknown"]) == 1
    assert [letter.job_id for letter in client.dead.list(name)] == [again.id]


def test_all_letters_are_counted_replayed_and_dropped_as_streams(client: Client, collection_name: str) -> None:
    name = f"{collection_name}-refusing"
    client.create_collection(name, chunking=Chunking(long_texts=LongTexts.REFUSE))
    client.enqueue(name, [{"id": str(each), "text": "word " * 9000} for each in range(70)]).wait(60)
    (group,) = client.dead.summary(name).groups
    assert (group.error, group.collection, group.letters) == ("TextTooLong", name, 70)
    assert client.dead.summary("another").groups == ()
    (again,) = client.dead.replay(collection=name)
    assert again.wait(60).dead == 70
    assert {letter.job_id for letter in client.dead.list(name, limit=200)} == {again.id}
    assert client.dead.replay(collection="another") == []
    assert client.dead.drop(collection=name) == 70
    assert client.dead.summary(name).groups == ()
    assert client.audit(name).expected == 0


def test_a_job_that_was_forgotten_says_what_was_known_of_it(client: Client, collection_name: str) -> None:
    job = client.enqueue(collection_name, Document(id="a", text="t"))
    assert job.wait(60).stored == 1
    client._parts.ledger._forget(job.id)  # type: ignore[attr-defined]  # as time does
    with pytest.raises(InvalidInput, match="when last looked at: done: 1 accepted, 1 stored"):
        job.wait(1)


# rejections and deaths


def test_rejections_are_on_the_job_and_in_its_report_and_raise_where_asked(
    client: Client, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = client.enqueue(collection_name, [{"id": "a", "text": "fine"}, {"id": "b", "text": ""}, {"id": "c"}])
    assert [(each.position, each.id) for each in job.rejections] == [(1, "b"), (2, "c")]
    assert "2 rejected" in repr(job)
    report = job.wait(60)
    assert (report.stored, report.rejected) == (1, 2)
    with pytest.raises(DocumentsFailed, match=r"'b'.*expected text to embed") as failed:
        report.raise_for_failures()
    assert (failed.value.report, failed.value.job_id, failed.value.collection) == (report, job.id, collection_name)
    assert any("2 rejected" in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


def test_a_wait_says_how_many_died_and_why_and_how_to_see_them(
    client: Client, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{collection_name}-refusing"
    client.create_collection(name, chunking=Chunking(long_texts=LongTexts.REFUSE))
    job = client.enqueue(name, [Document(id="long", text="word " * 9000), Document(id="ok", text="short")])
    report = job.wait(60)
    assert (report.stored, report.dead) == (1, 1)
    line = f"client.dead.list(job='{job.id}')"
    for told in (repr(report), repr(job), caplog.text):
        assert "1 dead" in told
        assert line in told
    assert "'long' died: TextTooLong" in report.reasons[0]
    with pytest.raises(DocumentsFailed, match="1 dead; 'long' died: TextTooLong"):
        report.raise_for_failures()
    assert client.jobs.get(job.id).report().reasons == report.reasons


def test_a_report_without_failures_gives_itself_back(client: Client, collection_name: str) -> None:
    report = client.enqueue(collection_name, Document(id="a", text="t")).wait(60)
    assert report.raise_for_failures() is report


def test_metadata_under_the_key_of_the_text_is_refused_by_name(client: Client, collection_name: str) -> None:
    documents = [
        Document(id="a", text="the text", metadata={"text": "lost until now"}),
        Document(id="b", text="the text", metadata={"title": "fine"}),
    ]
    job = client.enqueue(collection_name, documents)
    assert [each.id for each in job.rejections] == ["a"]
    assert "metadata.text" in job.rejections[0].reason
    assert job.wait(60).stored == 1
    name = f"{collection_name}-body"
    client.create_collection(name, text_key="body")
    stored(client, name, documents[0])
    assert client.get(name, "a").metadata == {"text": "lost until now"}  # type: ignore[union-attr]


# reading documents back


def test_documents_come_back_whole_from_their_chunks(client: Client, collection_name: str) -> None:
    documents = [
        Document(id="long", text=LONG, metadata={"k": [1, {"deep": None}]}, version=7),
        Document(id="padded", text="  short, with white space around\n", tenant="t", version=3),
    ]
    stored(client, collection_name, *documents)
    found = client.get(collection_name, "long")
    chunks = client.collections.count(collection_name) - 1
    assert found == StoredDocument(id="long", text=LONG, metadata=documents[0].metadata, version=7, chunks=chunks)
    assert found.chunks > 3
    assert client.get(collection_name, "padded") is None, "it is tenant t's"
    assert [each.text for each in client.get(collection_name, ["padded"], tenant="t")] == [documents[1].text]


def test_many_ids_come_back_in_their_order_without_the_absent_ones(client: Client, collection_name: str) -> None:
    stored(client, collection_name, *({"id": each, "text": f"text {each}"} for each in "abc"))
    assert [each.id for each in client.get(collection_name, ["c", "nobody", "a", "c"])] == ["c", "a"]
    assert client.get(collection_name, []) == []
    assert client.get(collection_name, "nobody") is None


def test_a_document_with_a_chunk_missing_is_not_called_whole(client: Client, collection_name: str) -> None:
    stored(client, collection_name, Document(id="long", text=LONG))
    client._parts.store.delete(collection_name, [client.receipt(collection_name, "long").point_ids[2]])
    found = client.get(collection_name, "long")
    assert found is not None
    assert not found.whole
    job = client.update_metadata(collection_name, "long", {"k": 1})
    assert "chunks are missing" in job.rejections[0].reason


def test_documents_are_counted_and_not_their_chunks(client: Client, collection_name: str) -> None:
    stored(
        client,
        collection_name,
        Document(id="long", text=LONG, metadata={"lang": "en"}),
        Document(id="a", text="t", metadata={"lang": "zh"}),
        Document(id="a", text="t", tenant="x"),
    )
    assert client.collections.count(collection_name) > 3
    assert client.count(collection_name) == 3
    assert client.count(collection_name, {"lang": "en"}) == 1
    assert client.count(collection_name, tenant="x") == 1


# metadata


def test_metadata_is_changed_without_the_text_and_without_the_model(client: Client, collection_name: str) -> None:
    stored(
        client, collection_name, Document(id="long", text=LONG, metadata={"keep": 1, "change": 1, "go": 1}, version=5)
    )
    report = client.update_metadata(collection_name, "long", {"change": {"deep": 2}, "go": None, "new": [3]}).wait(60)
    assert (report.stored, report.tokens) == (1, 0)
    found = client.get(collection_name, "long")
    assert found is not None
    assert (found.text, found.version, found.whole) == (LONG, 6, True)
    assert found.metadata == {"keep": 1, "change": {"deep": 2}, "new": [3]}


def test_a_newer_text_wins_over_changed_metadata_and_older_work_loses(client: Client, collection_name: str) -> None:
    stored(client, collection_name, Document(id="a", text="five", version=5))
    client.update_metadata(collection_name, "a", {"k": 1}).wait(60).raise_for_failures()
    assert client.enqueue(collection_name, Document(id="a", text="late", version=5)).wait(60).superseded == 1
    assert client.enqueue(collection_name, Document(id="a", text="newer", version=9)).wait(60).stored == 1
    assert client.get(collection_name, "a").metadata == {}  # type: ignore[union-attr]


def test_changes_for_what_is_not_there_are_rejections(client: Client, collection_name: str) -> None:
    stored(client, collection_name, Document(id="a", text="t", tenant="x"))
    job = client.update_metadata(collection_name, ["a", "b"], {"k": 1})
    assert [(each.position, each.id) for each in job.rejections] == [(0, "a"), (1, "b")]
    assert client.update_metadata(collection_name, ["a"], {"k": 1}, tenant="x").wait(60).stored == 1


@pytest.mark.parametrize("changes", [{"text": "no"}, {"_gristmill": {}}, {}, [("k", 1)], {"k": object()}, {1: 2}])
def test_changes_that_cannot_be_are_refused(client: Client, collection_name: str, changes: Any) -> None:
    with pytest.raises(InvalidInput, match="changes"):
        client.update_metadata(collection_name, "a", changes)


# deleting by filter


def test_a_deletion_by_filter_leaves_versions_newer_than_the_one_that_matched(
    client: Client, collection_name: str
) -> None:
    stored(client, collection_name, Document(id="a", text="t", metadata={"kind": "old"}, version=5))
    assert client.delete_where(collection_name, {"kind": "old"}).wait(60).deleted == 1
    assert client.enqueue(collection_name, Document(id="a", text="t", version=5)).wait(60).superseded == 1
    assert client.enqueue(collection_name, Document(id="a", text="t", version=6)).wait(60).stored == 1


# collections


def test_settings_of_an_existing_collection_are_not_passed_over(client: Client, collection_name: str) -> None:
    there = client.create_collection(collection_name)
    assert there.chunking.size == 16
    for other, told in (
        ({"chunking": Chunking(size=99)}, "chunking is chunk of 16 tokens.*asked for chunk of 99 tokens"),
        ({"text_key": "body"}, "text_key is 'text', asked for 'body'"),
        ({"distance": "dot"}, "distance is 'cosine', asked for 'dot'"),
        (
            {"instructions": Instruction(name="faq", text="Find it")},
            r"instructions is \[\], asked for \[faq: 'Find it'\]",
        ),
    ):
        with pytest.raises(CollectionConflict, match=told) as conflict:
            client.create_collection(collection_name, **other)
        assert (conflict.value.field, conflict.value.collection) == (next(iter(other)), collection_name)
    assert client.create_collection(collection_name, distance="cosine", text_key="text") == there


def test_what_can_be_changed_is_changed_when_asked(client: Client, collection_name: str) -> None:
    asked: dict[str, Any] = {
        "chunking": {"size": 32, "overlap": 0},
        "instructions": [{"name": "faq", "text": "Find it"}],
    }
    changed = client.create_collection(collection_name, **asked, update=True)
    assert (changed.chunking.size, changed.instructions[0].label) == (32, "faq@1")
    assert client.collections.get(collection_name) == changed
    stored(client, collection_name, Document(id="a", text="t"))
    assert client.search(collection_name, "t", instruction="faq")[0].instruction == "faq@1"
    unchangeable: list[dict[str, Any]] = [{"text_key": "body"}, {"distance": "euclid"}]
    for fixed in unchangeable:
        with pytest.raises(CollectionConflict, match="cannot be changed"):
            client.create_collection(collection_name, **asked, **fixed, update=True)
    with pytest.raises(SpaceMismatch):
        client.create_collection(collection_name, dimensions=8, force_dimensions=True, update=True)


def test_a_string_is_no_instruction(client: Client, collection_name: str) -> None:
    with pytest.raises(InvalidInput, match="instructions: expected an Instruction"):
        client.create_collection(collection_name, instructions="faq")  # type: ignore[arg-type]  # that is the point


# searching and embedding


@pytest.mark.parametrize("name", ["faq", "faq@2", "FAQ", "faq@latest", "my-faq_2", " faq "])
def test_a_name_that_is_not_registered_does_not_become_the_prompt(
    client: Client, collection_name: str, name: str
) -> None:
    with pytest.raises(InvalidInput, match="has none") as refused:
        client.search(collection_name, "q", instruction=name)
    assert (refused.value.field, refused.value.collection) == ("instruction", collection_name)
    client.create_collection(collection_name, instructions=Instruction(name="web", text="Find pages"), update=True)
    with pytest.raises(InvalidInput, match="has web@1"):
        client.embed("q", collection=collection_name, instruction=name)
    for sentence in ("Find the FAQ entry", "查找常见问题"):
        assert client.search(collection_name, "q", instruction=sentence) == []


def test_search_takes_one_query_and_search_many_a_list(client: Client, collection_name: str) -> None:
    stored(client, collection_name, *({"id": each, "text": f"text {each}"} for each in "abc"))
    with pytest.raises(InvalidInput, match="query: expected one text, got list; `search_many`"):
        client.search(collection_name, ["text a"])  # type: ignore[arg-type]  # that is the point
    queries = [f"text {each}" for each in "cab"]
    for grouped in (False, True):
        hits = client.search_many(collection_name, queries, limit=1, group_by_document=grouped)
        assert [[hit.id for hit in each] for each in hits] == [["c"], ["a"], ["b"]]
        assert hits == [client.search(collection_name, each, limit=1, group_by_document=grouped) for each in queries]
    assert client.search_many(collection_name, []) == []
    assert len(client.search_many(collection_name, "text a")) == 1


def test_embedded_texts_are_what_a_search_compares(client: Client, collection_name: str) -> None:
    stored(client, collection_name, Document(id="a", text="text a"))
    vectors = client.embed(["text a", "other"], collection=collection_name, kind="document")
    assert vectors.shape == (2, 16)
    assert vectors.dtype == np.float32
    hit = client.search(collection_name, "text a")[0]
    query = client.embed("text a", collection=collection_name)
    assert query.shape == (16,)
    np.testing.assert_allclose(hit.score, query @ vectors[0], atol=1e-5)
    instructed = client.embed("text a", collection=collection_name, instruction="Find the text")
    assert not np.allclose(instructed, query)
    np.testing.assert_array_equal(client.embed("text a", model="hash:16"), query)
    np.testing.assert_array_equal(client.embed("text a"), query)
    assert client.embed([], collection=collection_name).shape == (0, 16)


def test_more_texts_than_one_request_takes_are_cut_into_several(client: Client) -> None:
    texts = [f"text number {n}" for n in range(700)]
    vectors = client.embed(iter(texts))
    assert vectors.shape == (700, 16)
    np.testing.assert_array_equal(vectors[-1], client.embed(texts[-1]))


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ({"texts": 5}, "texts"),
        ({"texts": ["a", ""]}, "texts[1]"),
        ({"texts": "a", "kind": "passage"}, "kind"),
        ({"texts": "a", "lens": "legal"}, "lens"),
        ({"texts": "a", "collection": "c", "model": "m"}, "model"),
        ({"texts": "a", "instruction": "faq"}, "instruction"),
    ],
)
def test_embed_refuses_by_name(client: Client, how: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.embed(**how)
    assert refused.value.field == field


def test_a_query_or_text_beyond_the_window_is_refused_and_not_cut(client: Client, collection_name: str) -> None:
    long = "word " * 513
    with pytest.raises(EncodingFailed, match="text 1: expected at most 512 tokens"):
        client.embed(["short", long], collection=collection_name)
    with pytest.raises(EncodingFailed, match="window of hash:16"):
        client.search(collection_name, long)


def test_a_model_that_nobody_serves_is_named(client: Client) -> None:
    for call in (lambda: client.embed("a", model="other"), lambda: client.models.get("other")):
        with pytest.raises(NoWorker, match="'other'") as nobody:
            call()
        assert nobody.value.model == "other"


# reprs


def test_reprs_say_something_and_stay_short(client: Client, collection_name: str) -> None:
    huge = Document(id="a", text="x" * 2**20, metadata={"k": "y" * 60_000})
    assert len(repr(huge)) < 1000
    assert len(str(huge)) < 1000
    assert "id='a'" in repr(huge)
    job = client.enqueue(collection_name, Document(id="a", text="t"))
    assert job.id in repr(job)
    job.wait(60)
    assert "1 stored" in repr(job)
    assert "hash:16" in repr(client)
