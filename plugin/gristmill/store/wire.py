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
    pieces = [before_points.SerializeToString()]
    by_name = keywords_from is not None or len(names) > 1
    for point_id, vectors, payload in points:
        head = _head(point_id, payload)
        if keywords_from is not None:
            head += keywords_on_the_wire(with_words(payload, keywords_from))
        within = [head]
        for name, vector in zip(names, np.atleast_2d(vectors.astype("<f4", copy=False)), strict=True):
            within += (_before_numbers(len(vector), name if by_name else None), vector.tobytes())
        pieces += (_POINTS, _varint(sum(map(len, within))), *within)
    return b"".join(pieces)


def _head(point_id: str, payload: Mapping[str, Any]) -> bytes:
    """What a point's message has before its vector: id and payload."""
    entries = _entries(_PAYLOAD, payload)
    if entries is None:
        return _serialized(grpc.PointStruct(id=grpc.PointId(uuid=point_id), payload=payload_to_grpc(dict(payload))))
    uuid = point_id.encode()
    return b"".join((_ID, _varint(len(uuid) + 2), _UUID, _varint(len(uuid)), uuid, entries))


def _entries(tag: bytes, fields: Mapping[str, Any]) -> bytes | None:
    """A map of `qdrant.Value`, entry by entry; None where one is not plain: what holds more than one level, or a list."""
    pieces: list[bytes] = []
    for key, value in fields.items():
        kind = type(value)
        if kind is str:
            text = value.encode()
            pieces += (_before(tag, key, _TEXT, len(text)), text)
        elif kind is bool or value is None or (kind is int and -(2**63) <= value < 2**63):
            pieces.append(_short(tag, key, value))
        elif kind is float:
            pieces += (_before_double(tag, key), _double(value))
        elif kind is dict and tag == _PAYLOAD and (inner := _entries(_FIELDS, value)) is not None:
            pieces += (_before(tag, key, _STRUCT, len(inner)), inner)
        else:
            return None
    return b"".join(pieces)


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


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
