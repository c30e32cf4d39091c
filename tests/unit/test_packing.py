"""Streams become parcels in bounded memory: nothing lost, nothing reordered, bad ones named, doubles refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.packing import SeenKeys, group, parse
from gristmill_schemas import Deletion, Document, Parcel, Rejection
from gristmill_schemas.limits import MAX_PARCEL_BYTES, MAX_PARCEL_DOCUMENTS
from gristmill_schemas.parcel import pack, unpack
from gristmill_worker.sink import MAX_REQUEST_BYTES, MAX_REQUEST_POINTS, slices

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
    assert len(next(groups)) == MAX_PARCEL_DOCUMENTS
    assert taken == MAX_PARCEL_DOCUMENTS + 1


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
