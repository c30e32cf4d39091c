"""Several queries in one request, with the time that Qdrant says it took, which its client keeps to itself.

A server is asked past the client's outer layer, which copies each query number by number to look for texts that a model of
its own should encode: with 1,024 dimensions a third of all that a search costs the client. Ours hold none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from qdrant_client import QdrantClient, grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.qdrant_remote import QdrantRemote

from gristmill.store.connection import speaks_grpc

Lists = list[Sequence[models.ScoredPoint]]


def is_server(store: QdrantClient) -> bool:
    """Whether a server answers, and not local mode."""
    return isinstance(getattr(store, "_client", None), QdrantRemote)


def query_batch(
    store: QdrantClient, collection: str, requests: Sequence[models.QueryRequest]
) -> tuple[Lists, float | None]:
    """For each request its points; and seconds, None where local mode answers."""
    if not is_server(store):
        return [answer.points for answer in store.query_batch_points(collection, requests)], None
    remote = cast("QdrantRemote", store._client)
    return (_over_grpc if speaks_grpc(store) else _over_rest)(remote, collection, requests)


def _over_grpc(
    remote: QdrantRemote, collection: str, requests: Sequence[models.QueryRequest]
) -> tuple[Lists, float | None]:
    asked = [RestToGrpc.convert_query_request(each, collection) for each in requests]
    message = grpc.QueryBatchPoints(collection_name=collection, query_points=asked)
    answer = remote.grpc_points.QueryBatch(message, timeout=remote._timeout)
    found = [[GrpcToRest.convert_scored_point(point) for point in each.result] for each in answer.result]
    return cast("Lists", found), answer.time


def _over_rest(
    remote: QdrantRemote, collection: str, requests: Sequence[models.QueryRequest]
) -> tuple[Lists, float | None]:
    batch = models.QueryRequestBatch(searches=list(requests))
    answer = remote.http.search_api.query_batch_points(collection_name=collection, query_request_batch=batch)
    assert answer.result is not None, "Query batch returned None"  # as the client itself; it is told as no Qdrant
    return [each.points for each in answer.result], answer.time
