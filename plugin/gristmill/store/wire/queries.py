"""One list of hits, as it is asked for: by the client's own classes, but for the vector, whose numbers go as they are.

The client checks each number, and copies all of them as Python's floats three times: with 1,024 of them a third of what a
search costs who asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc


def query_message(collection: str, request: Mapping[str, Any]) -> grpc.QueryPoints:
    """A request of the Query API.

    Args:
        collection: its name.
        request: fields of `models.QueryRequest`; `query` may be a vector as an array, float32 (D,).
    """
    vector = request.get("query")
    if not isinstance(vector, np.ndarray):
        return _converted(collection, request)
    message = _converted(collection, {**request, "query": None})
    numbers = vector.astype("<f4", copy=False).tobytes()
    message.query.nearest.dense.MergeFromString(_before(len(vector)) + numbers)
    return message


def _converted(collection: str, request: Mapping[str, Any]) -> grpc.QueryPoints:
    return RestToGrpc.convert_query_request(models.QueryRequest(**request), collection)


@lru_cache(maxsize=64)
def _before(dimensions: int) -> bytes:
    """What a vector's message has before its numbers, which end it."""
    message = grpc.DenseVector(data=[0.0] * dimensions).SerializeToString()
    return bytes(message[: len(message) - 4 * dimensions])
