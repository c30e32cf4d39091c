"""Several queries in one request, with the time that Qdrant says it took, which its client keeps to itself.

A server is asked past the client's outer layers: they look at every number of a query, and make a record of every value of
an answer, which is most of what a search costs who asks. Whatever answers, the points that come are the same records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.qdrant_remote import QdrantRemote

from gristmill.store.connection import is_server, speaks_grpc
from gristmill.store.found_points import FoundPoint, of_message, of_record
from gristmill.store.wire import query_message

#: Fields of `models.QueryRequest`; `query` may be a vector as an array, float32 (D,).
Request = Mapping[str, Any]


Lists = list[list[FoundPoint]]


def query_batch(store: QdrantClient, collection: str, requests: Sequence[Request]) -> tuple[Lists, float | None]:
    """For each request its points; and seconds, None where local mode answers."""
    if not is_server(store):
        asked = [_record(each) for each in requests]
        return [list(map(of_record, answer.points)) for answer in store.query_batch_points(collection, asked)], None
    remote = cast("QdrantRemote", store._client)
    return (_over_grpc if speaks_grpc(store) else _over_rest)(remote, collection, requests)


def _over_grpc(remote: QdrantRemote, collection: str, requests: Sequence[Request]) -> tuple[Lists, float | None]:
    asked = [query_message(collection, each) for each in requests]
    message = grpc.QueryBatchPoints(collection_name=collection, query_points=asked)
    answer = remote.grpc_points.QueryBatch(message, timeout=remote._timeout)
    return [list(map(of_message, each.result)) for each in answer.result], answer.time


def _over_rest(remote: QdrantRemote, collection: str, requests: Sequence[Request]) -> tuple[Lists, float | None]:
    batch = models.QueryRequestBatch(searches=[_record(each) for each in requests])
    answer = remote.http.search_api.query_batch_points(collection_name=collection, query_request_batch=batch)
    assert answer.result is not None, "Query batch returned None"  # as the client itself; it is told as no Qdrant
    return [list(map(of_record, each.points)) for each in answer.result], answer.time


def _record(request: Request) -> models.QueryRequest:
    return models.QueryRequest(**{**request, "query": listed(request.get("query"))})


def listed(query: Any) -> Any:
    """A query as the client's records take it: a vector as a list of numbers, anything else as it is."""
    return query.tolist() if isinstance(query, np.ndarray) else query
