"""What was stored by a newer Gristmill: unknown fields do no harm, a newer format is left alone and said to be one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pydantic import ValidationError

from gristmill_schemas import (
    Chunking,
    CollectionSpec,
    DeadLetter,
    Document,
    EncoderInfo,
    Intent,
    LongTexts,
    Parcel,
    PointSystem,
    Pooling,
    QueryRequest,
    RefusedMessage,
)
from gristmill_schemas.errors import EncodingFailed, GristmillError, InvalidInput, NewerFormat
from gristmill_schemas.parcel import pack, unpack
from gristmill_schemas.query import QueryAnswer, Status, pack_answer, pack_failure, unpack_answer
from gristmill_schemas.stored import Stored

INFO = EncoderInfo(model="m", digest="d", pooling=Pooling.MEAN, dimensions=8, max_tokens=64)
PARCEL = Parcel(
    id="p",
    job_id="j",
    collection="c",
    model_digest="d",
    documents=(Document(id="a", text="t"),),
    version=1,
    enqueued_at=1,
)
LETTER = DeadLetter(
    id="l",
    job_id="j",
    collection="c",
    model_digest="d",
    document=PARCEL.documents[0],
    version=1,
    error="E",
    reason="r",
    attempts=1,
    enqueued_at=1,
    died_at=1,
)
POINT = PointSystem(
    id="a",
    version=1,
    chunk=0,
    text_hash="t",
    etag="e",
    space="s",
    job="j",
    stored_at=1,
)
QUERY = QueryRequest(token="0" * 32, model_digest="d", dimensions=8, texts=("t",))
STORED: list[Stored] = [
    INFO,
    PARCEL,
    LETTER,
    POINT,
    QUERY,
    CollectionSpec(name="c", space=INFO.space()),
    RefusedMessage(reason="r", queue="q", message="m", refused_at=1),
    Intent(token="t", parcel_id="p", collection="c", key="c", documents=()),
]
kinds = pytest.mark.parametrize("record", STORED, ids=lambda record: record.KIND)


def with_unknown_fields(value: Any) -> Any:
    """The same record as a newer Gristmill of the same format might write it: more fields, at every depth but the user's."""
    if isinstance(value, dict):
        known = {key: item if key == "metadata" else with_unknown_fields(item) for key, item in value.items()}
        return known | {"of_tomorrow": [1]}
    return [with_unknown_fields(item) for item in value] if isinstance(value, list) else value


@kinds
def test_unknown_fields_in_what_is_stored_do_no_harm(record: Stored) -> None:
    assert type(record).read(with_unknown_fields(record.model_dump(mode="json"))) == record


@kinds
def test_a_newer_format_is_named_even_where_its_fields_are_others(record: Stored) -> None:
    with pytest.raises(NewerFormat, match=f"{record.KIND}: format 7 is newer than 1.*upgrade this side") as caught:
        type(record).read({"quite": "other", "format": 7})
    assert (caught.value.kind, caught.value.found, caught.value.known) == (record.KIND, 7, 1)


@kinds
def test_what_is_no_such_record_is_broken_and_not_newer(record: Stored) -> None:
    for broken in ({}, {"format": "x"}):
        with pytest.raises(InvalidInput, match=record.KIND):
            type(record).read(broken)
    with pytest.raises(InvalidInput, match=record.KIND):
        type(record).read_json(b"\xff no JSON")


@kinds
def test_every_record_says_its_format(record: Stored) -> None:
    assert record.model_dump(mode="json", exclude_none=True)["format"] == 1


def test_at_the_door_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="txet"):
        Document.model_validate({"id": "a", "text": "t", "txet": "typo"})


def test_a_parcel_says_its_format_on_the_wire() -> None:
    with pytest.raises(NewerFormat, match="parcel: format 2"):
        unpack(pack(PARCEL.model_copy(update={"format": 2})))
    assert unpack(pack(PARCEL)) == PARCEL


def test_a_list_passes_over_what_it_cannot_read_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    newer = LETTER.model_copy(update={"format": 2}).model_dump_json()
    with caplog.at_level(logging.WARNING):
        assert list(DeadLetter.read_each([newer, LETTER.model_dump_json(), newer, "broken"])) == [LETTER]
    (line,) = caplog.messages
    assert "3 passed over" in line
    assert "dead letter: format 2 is newer than 1" in line


def test_a_description_does_not_say_what_its_collection_is_called() -> None:
    spec = CollectionSpec(name="faq", space=INFO.space(), incarnation="i")
    assert not {"name", "physical"} & set(spec.described())
    copy = CollectionSpec.read({**spec.described(), "name": "alias", "physical": "copy"})
    assert (copy.name, copy.physical, copy.key, spec.key) == ("alias", "copy", "copy@i", "faq@i")


# a query's answer


def test_vectors_come_back_as_they_were_sent() -> None:
    floats = bytes(range(24))
    assert unpack_answer(pack_answer(floats, 2, 3)) == QueryAnswer(floats, 2, 3)


def test_the_workers_own_error_comes_back_as_one() -> None:
    with pytest.raises(EncodingFailed, match="zu lang"):
        unpack_answer(pack_failure("zu lang"))
    with pytest.raises(GristmillError, match="format 7") as caught:
        unpack_answer(pack_failure("query: format 7", Status.REFUSED))
    assert not isinstance(caught.value, EncodingFailed)


@pytest.mark.parametrize("body", [b"", b"\x01", pack_answer(b"1234", 2, 3), pack_answer(b"12345", 1, 1)])
def test_bytes_that_are_no_answer_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="answer to a query"):
        unpack_answer(body)


def test_an_answer_of_a_newer_worker_is_named() -> None:
    with pytest.raises(NewerFormat, match="answer to a query: format 2"):
        unpack_answer(b"\x02" + b"anything")


def test_a_small_chunk_overlaps_by_a_part_of_itself_so_that_its_policy_can_be_read_again() -> None:
    assert [Chunking(size=size).overlap for size in (16, 64, 256, 512, 8192)] == [2, 8, 32, 64, 64]
    for policy in (Chunking(size=16), Chunking(size=64, long_texts=LongTexts.REFUSE)):
        assert Chunking.model_validate(policy.model_dump()) == policy
