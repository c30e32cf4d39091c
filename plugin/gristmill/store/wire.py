"""A write's message as bytes, put together in one go, so that its vectors are copied once.

Messages of protobuf that follow one another read as one with the fields of all. So everything small is made by the client's
own classes, and the numbers of the vectors, which are nearly all of a write's bytes, stand between as they are: a message
of messages would copy them once for each level, and its serialization once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import grpc
from qdrant_client.conversions.conversion import payload_to_grpc

#: Field 3 of `qdrant.UpsertPoints`, of bytes whose number comes next.
_POINTS = b"\x1a"


def upsert_request(
    collection: str,
    points: Iterable[tuple[str, npt.NDArray[np.float32], Mapping[str, Any]]],
    update_filter: grpc.Filter,
) -> bytes:
    """A serialized `qdrant.UpsertPoints`, to be applied when its answer comes.

    Args:
        collection: physical name.
        points: UUID, unnamed vector float32 (D,), payload.
        update_filter: what a point must match to be replaced.

    Raises:
        google.protobuf.message.Error: a payload is nested more deeply than a message may be.
    """
    pieces = [grpc.UpsertPoints(collection_name=collection, wait=True, update_filter=update_filter).SerializeToString()]
    for point_id, vector, payload in points:
        head = _serialized(grpc.PointStruct(id=grpc.PointId(uuid=point_id), payload=payload_to_grpc(dict(payload))))
        before = _before_numbers(len(vector))
        numbers = vector.astype("<f4", copy=False).tobytes()
        pieces += (_POINTS, _varint(len(head) + len(before) + len(numbers)), head, before, numbers)
    return b"".join(pieces)


def _serialized(point: grpc.PointStruct) -> bytes:
    """A point's bytes, made where it will stand: levels count from the outermost message, and there may be a hundred."""
    within = grpc.UpsertPoints(points=[point]).SerializeToString()
    start = len(_POINTS)
    while within[start] > 127:  # the length goes on
        start += 1
    return bytes(within[start + 1 :])


@lru_cache(maxsize=16)
def _before_numbers(dimensions: int) -> bytes:
    """What a point's message has before the numbers of its vector, which end it."""
    dense = grpc.DenseVector(data=[0.0] * dimensions)
    message = grpc.PointStruct(vectors=grpc.Vectors(vector=grpc.Vector(dense=dense))).SerializeToString()
    return bytes(message[: len(message) - 4 * dimensions])


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
