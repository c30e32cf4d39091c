"""A write's message as bytes, put together in one go, so that its vectors are copied once and its fields never.

Messages of protobuf that follow one another read as one with the fields of all. So what is the same for all points is made
by the client's own classes, and the numbers of the vectors, which are nearly all of a write's bytes, stand between as they
are: a message of messages would copy them once for each level, and its serialization once more.

What most payloads are made of, texts and numbers under names that come again and again, is written here, since a tag, two
lengths and a name are the same bytes each time: a third of what a message object per value costs. Whatever else a payload
holds goes through the client's own classes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import grpc
from qdrant_client.conversions.conversion import payload_to_grpc

from gristmill.store.keywords import keywords_on_the_wire, with_words

# Tags: a field's number, and that bytes whose number comes next are its value; but for integers and doubles.
#: `UpsertPoints.points`; `PointStruct.id` and `.payload`; `PointId.uuid`.
_POINTS, _ID, _PAYLOAD, _UUID = b"\x1a", b"\x0a", b"\x1a", b"\x12"
#: Both parts of an entry of a map; `Struct.fields`.
_KEY, _VALUE, _FIELDS = b"\x0a", b"\x12", b"\x0a"
#: The kinds of a `Value`.
_NULL, _DOUBLE, _INTEGER, _TEXT, _BOOLEAN, _STRUCT = b"\x08", b"\x11", b"\x18", b"\x22", b"\x28", b"\x32"

_double = struct.Struct("<d").pack
#: Characters of the longest text that is looked for in the point before: hashes are longer.
_SHORT_TEXT = 31


def upsert_request(
    collection: str,
    points: Iterable[tuple[str, npt.NDArray[np.float32], Mapping[str, Any]]],
    update_filter: grpc.Filter,
    keywords_from: str | None = None,
    ordering: grpc.WriteOrdering | None = None,
    names: Sequence[str] = ("",),
) -> bytes:
    """A serialized `qdrant.UpsertPoints`, to be applied when its answer comes.

    Args:
        collection: physical name.
        points: UUID, vectors float32 (V, D), or (D,) of a sole one, payload.
        update_filter: what a point must match to be replaced.
        keywords_from: payload key of the text whose words are written beside the vector; None where the collection has none.
        ordering: see `copies`.
        names: of the V vectors; the first has none.

    Raises:
        google.protobuf.message.Error: a payload is nested more deeply than a message may be.
    """
    before_points = grpc.UpsertPoints(
        collection_name=collection, wait=True, update_filter=update_filter, ordering=ordering
    )
    pieces: list[bytes | memoryview] = [before_points.SerializeToString()]
    alike = _Alike()
    by_name = keywords_from is not None or len(names) > 1
    for point_id, vectors, payload in points:
        head = _head(point_id, payload, alike)
        if keywords_from is not None:
            head += keywords_on_the_wire(with_words(payload, keywords_from))
        within: list[bytes | memoryview] = [head]
        size = len(head)
        for name, vector in zip(names, vectors if vectors.ndim == 2 else (vectors,), strict=True):
            before, numbers = _before_numbers(len(vector), name if by_name else None), _bytes_of(vector)
            within += (before, numbers)
            size += len(before) + len(numbers)
        pieces += (_POINTS, _varint(size), *within)
    return b"".join(pieces)


def _bytes_of(vector: npt.NDArray[np.float32]) -> memoryview:
    return np.ascontiguousarray(vector, dtype="<f4").data.cast("B")


def point_ids(ids: Sequence[str]) -> bytes:
    """UUIDs as field 1 of a message, which is repeated: a message per id costs more than the question does."""
    return _listed("\x0a", ids)


def get_request(
    collection: str, ids: Sequence[str], fields: Sequence[str], consistency: grpc.ReadConsistency | None
) -> grpc.GetPoints:
    """A question for some fields of points' payloads, and no vectors.

    Args:
        collection: physical name.
        ids: UUIDs.
        fields: paths.
        consistency: see `copies`.
    """
    request = grpc.GetPoints(
        collection_name=collection,
        with_payload=grpc.WithPayloadSelector(include=grpc.PayloadIncludeSelector(fields=fields)),
        with_vectors=grpc.WithVectorsSelector(enable=False),
        read_consistency=consistency,
    )
    request.MergeFromString(_listed("\x12", ids))
    return request


def _listed(tag: str, ids: Sequence[str]) -> bytes:
    """Messages `PointId` under a tag. All UUIDs in their usual form have one length, and so one beginning."""
    before = f"{tag}\x26\x12\x24"
    return (before + before.join(ids)).encode("ascii") if ids else b""


#: The last value of each field, and its entry: points of one request say much alike, under the very same object.
_Seen = dict[str, tuple[object, bytes]]


class _Alike:
    """What the points of one request have said last: at the top of their payloads, and one level below."""

    __slots__ = ("inner", "top")

    def __init__(self) -> None:
        self.top: _Seen = {}
        self.inner: _Seen = {}


def _head(point_id: str, payload: Mapping[str, Any], alike: _Alike) -> bytes:
    """What a point's message has before its vector: id and payload."""
    entries = _entries(_PAYLOAD, payload, alike.top, alike.inner)
    if entries is None:
        return _serialized(grpc.PointStruct(id=grpc.PointId(uuid=point_id), payload=payload_to_grpc(dict(payload))))
    uuid = point_id.encode()
    return b"".join((_ID, _varint(len(uuid) + 2), _UUID, _varint(len(uuid)), uuid, entries))


def _entries(tag: bytes, fields: Mapping[str, Any], seen: _Seen, inner: _Seen | None = None) -> bytes | None:
    """A map of `qdrant.Value`, entry by entry; None where one is not plain: what holds more than one level, or a list."""
    pieces: list[bytes] = []
    for key, value in fields.items():
        if type(value) is str and len(value) > _SHORT_TEXT:  # an id, a hash, a text: no two points have the same
            text = value.encode()
            pieces += (_before(tag, key, _TEXT, len(text)), text)
            continue
        last = seen.get(key)
        if last is None or last[0] is not value:
            if (entry := _entry(tag, key, value, inner)) is None:
                return None
            seen[key] = last = value, entry
        pieces.append(last[1])
    return b"".join(pieces)


def _entry(tag: bytes, key: str, value: Any, inner: _Seen | None) -> bytes | None:
    kind = type(value)
    if kind is str:
        text: bytes = value.encode()
        return _before(tag, key, _TEXT, len(text)) + text
    if kind is bool or value is None or (kind is int and -(2**63) <= value < 2**63):
        return _short(tag, key, value)
    if kind is float:
        return _before_double(tag, key) + bytes(_double(value))
    if kind is dict and inner is not None and (within := _entries(_FIELDS, value, inner)) is not None:
        return _before(tag, key, _STRUCT, len(within)) + within
    return None


@lru_cache(maxsize=8192)
def _before(tag: bytes, key: str, kind: bytes, size: int) -> bytes:
    """What an entry has before a value of so many bytes, which end it."""
    return _opening(tag, key, kind + _varint(size), size)


@lru_cache(maxsize=1024)
def _before_double(tag: bytes, key: str) -> bytes:
    return _opening(tag, key, _DOUBLE, 8)


@lru_cache(maxsize=8192, typed=True)
def _short(tag: bytes, key: str, value: int | None) -> bytes:
    """The whole entry of what is short, and often the same for many points."""
    if value is None:
        return _opening(tag, key, _NULL + b"\0", 0)
    if isinstance(value, bool):
        return _opening(tag, key, _BOOLEAN + bytes([value]), 0)
    return _opening(tag, key, _INTEGER + _varint(value & (2**64 - 1)), 0)


def _opening(tag: bytes, key: str, value: bytes, size: int) -> bytes:
    """An entry but for the last `size` bytes of its value, whose first are given."""
    name, length = key.encode(), _varint(len(value) + size)
    within = b"".join((_KEY, _varint(len(name)), name, _VALUE, length, value))
    return tag + _varint(len(within) + size) + within


def _serialized(point: grpc.PointStruct) -> bytes:
    """A point's bytes, made where it will stand: levels count from the outermost message, and there may be a hundred."""
    within = grpc.UpsertPoints(points=[point]).SerializeToString()
    start = len(_POINTS)
    while within[start] > 127:  # the length goes on
        start += 1
    return bytes(within[start + 1 :])


@lru_cache(maxsize=64)
def _before_numbers(dimensions: int, name: str | None = None) -> bytes:
    """What a point's message has before the numbers of a vector, which end it.

    None is its only one. Vectors by name that follow one another read as one set of them; one of those has an empty name.
    """
    vector = grpc.Vector(dense=grpc.DenseVector(data=[0.0] * dimensions))
    vectors = (
        grpc.Vectors(vector=vector) if name is None else grpc.Vectors(vectors=grpc.NamedVectors(vectors={name: vector}))
    )
    message = grpc.PointStruct(vectors=vectors).SerializeToString()
    return bytes(message[: len(message) - 4 * dimensions])


@lru_cache(maxsize=8192)
def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
