"""Streams become parcels in bounded memory: nothing lost, nothing reordered, bad ones named, doubles refused."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.ingest import packing
from gristmill.ingest.packing import FIRST_GROUPS, group, parse
from gristmill.seen_keys import SeenKeys
from gristmill_schemas import Deletion, Document, Parcel, Rejection
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.limits import (
    FIRST_PARCEL_DOCUMENTS,
    MAX_METADATA_BYTES,
    MAX_PARCEL_BYTES,
    MAX_PARCEL_DOCUMENTS,
    MAX_PARCEL_INFLATED_BYTES,
    MAX_TEXT_BYTES,
)
from gristmill_schemas.parcel import pack, unpack
from gristmill_schemas.validation import SYSTEM_KEY
from gristmill_worker.pipeline.sink import MAX_REQUEST_BYTES, MAX_REQUEST_POINTS, slices

SIZES = st.lists(st.integers(1, 3 * MAX_PARCEL_BYTES // 2), max_size=30) | st.lists(st.integers(1, 9), max_size=300)


def documents(sizes: list[int]) -> list[Document]:
    return [Document(id=str(n), text="x" * size) for n, size in enumerate(sizes)]


@settings(deadline=None)
@given(SIZES)
def test_groups_keep_every_document_in_order_within_both_bounds(sizes: list[int]) -> None:
    given_documents = documents(sizes)
    groups = list(group(given_documents))
    assert [document for each in groups for document in each] == given_documents
    for each in groups:
        assert 1 <= len(each) <= MAX_PARCEL_DOCUMENTS
        assert len(each) == 1 or sum(len(document.text) for document in each) <= MAX_PARCEL_BYTES


def test_groups_are_made_as_the_stream_comes() -> None:
    taken = 0

    def stream() -> Iterator[Deletion]:
        nonlocal taken
        while True:
            taken += 1
            yield Deletion(id=str(taken))

    groups = group(stream())
    assert len(next(groups)) == FIRST_PARCEL_DOCUMENTS
    assert taken == FIRST_PARCEL_DOCUMENTS + 1


def test_a_long_jobs_short_texts_travel_in_larger_groups_after_the_first_sixteen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packing, "_ENOUGH_S", 3600.0)  # on however busy a machine
    groups = [len(each) for each in group(documents([9] * (FIRST_GROUPS * FIRST_PARCEL_DOCUMENTS + 600)))]
    assert groups == [FIRST_PARCEL_DOCUMENTS] * FIRST_GROUPS + [MAX_PARCEL_DOCUMENTS, MAX_PARCEL_DOCUMENTS, 88]


def test_a_long_jobs_ordinary_texts_are_as_many_to_a_group_as_a_short_ones() -> None:
    sizes = {len(each) for each in group(documents([1024] * (30 * FIRST_PARCEL_DOCUMENTS)))}
    assert sizes == {FIRST_PARCEL_DOCUMENTS}


def test_a_slow_stream_is_not_kept_waiting_for_larger_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_ENOUGH_S", 0.0)
    sizes = {len(each) for each in group(documents([9] * (30 * FIRST_PARCEL_DOCUMENTS)))}
    assert sizes == {FIRST_PARCEL_DOCUMENTS}


@given(st.lists(st.integers(1, 2 * MAX_REQUEST_BYTES) | st.integers(1, 99), max_size=50) | st.just([1] * 1000))
def test_requests_keep_every_item_in_order_within_both_bounds(sizes: list[int]) -> None:
    requests = list(slices(sizes, lambda size: size))
    assert [size for request in requests for size in request] == sizes
    for request in requests:
        assert 1 <= len(request) <= MAX_REQUEST_POINTS
        assert len(request) == 1 or sum(request) <= MAX_REQUEST_BYTES


def test_a_bad_item_is_named_and_costs_nobody_else_anything() -> None:
    items = [
        {"id": 1, "text": "a"},
        {"id": "bad"},
        {"id": "x", "text": "  "},
        "no mapping",
        {"id": "\ud800", "text": "t"},
    ]
    parsed = list(parse([*items, Document(id="2", text="b")]))  # type: ignore[list-item]  # that is the point
    assert [item.id for item in parsed if isinstance(item, Document)] == ["1", "2"]
    rejected = [item for item in parsed if isinstance(item, Rejection)]
    assert [(item.position, item.id) for item in rejected] == [(1, "bad"), (2, "x"), (3, None), (4, "?")]
    assert all(item.reason for item in rejected)


def test_the_second_of_two_with_one_id_is_refused_unless_their_tenants_differ() -> None:
    items = [Document(id="a", text="1"), Document(id="a", text="2"), Document(id="a", text="3", tenant="t")]
    first, second, third = parse(items)
    assert isinstance(second, Rejection)
    assert (first, third) == (items[0], items[2])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=4), max_size=400), st.integers(1, 16))
def test_seen_keys_are_a_set(keys: list[str], buffer: int) -> None:
    seen, reference = SeenKeys(), set[str]()
    seen._BUFFER = buffer  # small, so that the sorted part is used
    for key in keys:
        assert seen.add(key) == (key not in reference)
        reference.add(key)


def test_many_seen_keys_take_little_more_than_8_bytes_each() -> None:
    seen = SeenKeys()
    assert all(seen.add(str(n)) for n in range(200_000))
    assert seen._sorted.dtype == np.uint64
    assert len(seen._sorted) + len(seen._recent) == 200_000
    assert len(seen._recent) < SeenKeys._BUFFER


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), st.integers(0, 2**53 - 1) | st.none()), max_size=20))
def test_a_parcel_survives_its_codec(items: list[tuple[str, int | None]]) -> None:
    valid = [
        item
        for item in parse({"id": n, "text": text, "version": version} for n, (text, version) in enumerate(items))
        if isinstance(item, Document)
    ]
    parcel = Parcel(
        id="p", job_id="j", collection="c", model_digest="m", documents=tuple(valid), version=1, enqueued_at=1.5
    )
    assert unpack(pack(parcel)) == parcel
    assert [len(part) for part in parcel.split()] == [1] * len(valid)


@pytest.mark.parametrize(
    ("documents", "deletions", "parts"), [(64, 0, 4), (10, 3, 3), (0, 7, 2), (3, 0, 9), (1, 0, 2), (0, 0, 2)]
)
def test_a_parcel_in_parts_holds_everything_once_in_order_in_parts_of_one_size(
    documents: int, deletions: int, parts: int
) -> None:
    parcel = parcel_of(
        [Document(id=f"{n}", text="t") for n in range(documents)], [Deletion(id=f"d{n}") for n in range(deletions)]
    )
    cut = parcel.split(parts)
    assert [item for part in cut for item in part.items] == list(parcel.items)
    assert len(cut) == min(parts, len(parcel))
    sizes = {len(part) for part in cut}
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert len({part.id for part in (parcel, *cut)}) == len(cut) + 1


#: What JSON writes with the most escapes, the widest UTF-8, and what is neither.
CHARACTERS = st.sampled_from('\x01\x7f\u2028\ufeff\U0010ffff\\"é中 \n') | st.characters(
    exclude_categories=["Cs"], exclude_characters="\0"
)
WORDS = st.text(CHARACTERS, min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
LABELS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.builds(
    Document,
    id=WORDS,
    text=WORDS,
    metadata=st.dictionaries(WORDS.filter(lambda key: key != SYSTEM_KEY), LABELS, max_size=3),
    tenant=st.none() | WORDS,
    version=st.none() | st.integers(0, 2**53 - 1),
)
DELETIONS = st.builds(Deletion, id=WORDS, tenant=st.none() | WORDS, version=st.none() | st.integers(0, 2**53 - 1))


def parcel_of(documents: list[Document], deletions: list[Deletion] | None = None) -> Parcel:
    return Parcel(
        id="p",
        job_id="j",
        collection="c",
        model_digest="m",
        documents=tuple(documents),
        deletions=tuple(deletions or ()),
        version=1,
        enqueued_at=1.5,
    )


@settings(deadline=None)
@given(st.lists(DOCUMENTS, max_size=5), st.lists(DELETIONS, max_size=5))
def test_any_unicode_survives_the_codec_with_the_hashes_that_depend_on_it(
    documents: list[Document], deletions: list[Deletion]
) -> None:
    parcel = parcel_of(documents, deletions)
    back = unpack(pack(parcel))
    assert back == parcel
    for before, after in zip(documents, back.documents, strict=True):
        assert (after.text_hash, after.metadata_hash) == (before.text_hash, before.metadata_hash)


@settings(deadline=None)
@given(st.lists(DOCUMENTS, max_size=4), st.lists(DELETIONS, max_size=4))
def test_parts_hold_each_item_once_in_order_at_its_version_under_names_of_their_own(
    documents: list[Document], deletions: list[Deletion]
) -> None:
    parcel = parcel_of(documents, deletions)
    parts = parcel.split()
    assert [item for part in parts for item in part.items] == list(parcel.items)
    assert all(len(part) == 1 for part in parts)
    assert len({part.id for part in (parcel, *parts)}) == len(parts) + 1
    for part in parts:
        assert part.version_of(part.items[0]) == parcel.version_of(part.items[0])
        assert (part.job_id, part.collection, part.model_digest) == ("j", "c", "m")
        assert unpack(pack(part)) == part


@pytest.mark.parametrize("character", ["\x01", "\\", "\x7f", "中", "\U0010ffff"])
def test_the_largest_documents_that_are_accepted_can_be_unpacked(character: str) -> None:
    size = len(character.encode())
    # As JSON, a backslash in metadata is two bytes and a control character six; one in text counts once.
    label_size = len(character.encode("unicode_escape")) + 4
    largest = Document(
        id=character * 512 if character.strip() else "a",
        text=character * (MAX_TEXT_BYTES // size),
        metadata={"k": character * ((MAX_METADATA_BYTES - 16) // label_size)},
    )
    assert unpack(pack(parcel_of([largest]))).documents == (largest,)
    full = [Document(id=f"{n}{character * 500}", text=character * (4000 // size)) for n in range(500)]
    for each in group(full):
        assert len(unpack(pack(parcel_of(list(each))))) == len(each)


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_bytes_that_are_no_parcel_are_refused_and_nothing_else_happens(body: bytes, compressed: bool) -> None:
    with pytest.raises(InvalidInput, match="parcel"):
        unpack(zlib.compress(body) if compressed else body)


@given(st.data())
def test_a_parcel_that_was_cut_short_is_refused(data: st.DataObject) -> None:
    body = pack(parcel_of([Document(id="a", text="some text to cut")]))
    with pytest.raises(InvalidInput, match="parcel"):
        unpack(body[: data.draw(st.integers(0, len(body) - 8))])


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 1_000_000,
        b'{"id": ' + b"9" * 100_000 + b"}",
        b'{"__class__": "os.system", "id": "p"}',
        b"{}",
        b"\xff\xfe{}",
        b"NaN",
    ],
    ids=["deep", "long number", "foreign fields", "no fields", "no UTF-8", "NaN"],
)
def test_hostile_json_is_refused_within_bounds(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="parcel"):
        unpack(zlib.compress(text))


def test_a_bomb_is_refused_before_it_is_inflated_whole() -> None:
    bomb = zlib.compress(b" " * (2 * MAX_PARCEL_INFLATED_BYTES))
    with pytest.raises(InvalidInput, match="inflates to more than"):
        unpack(bomb)


def test_a_rejection_of_a_reader_keeps_its_own_place() -> None:
    given_rejection = Rejection(position=41, id="r", source="file.jsonl", reason="not JSON")
    items: list[Any] = [Document(id="a", text="t"), given_rejection, {"id": "bad"}]
    parsed = list(parse(items))
    assert parsed[1] == given_rejection
    assert isinstance(parsed[2], Rejection)
    assert parsed[2].position == 2
