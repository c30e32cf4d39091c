"""How many connections to Redis one application opens."""

from __future__ import annotations

import contextlib

import pytest
import redis

from gristmill import Client
from gristmill_schemas import Document, EncoderInfo, Pooling
from gristmill_schemas.errors import NoWorker
from services import QdrantServer
from waiting import eventually

pytestmark = pytest.mark.server

MODEL = EncoderInfo(model="m", digest="m", pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=9)


def connections(redis_url: str) -> int:
    """Clients of this test's database, beside the one that asks."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as asking:
        database = str(asking.connection_pool.connection_kwargs["db"])
        return sum(str(each["db"]) == database for each in asking.client_list()) - 1


def test_an_application_has_one_pool_beside_celerys(
    redis_url: str, qdrant_server: QdrantServer, collection_name: str
) -> None:
    servers = {"qdrant_url": qdrant_server.url, "qdrant_grpc_port": qdrant_server.grpc_port}
    with Client(redis_url=redis_url, query_timeout_s=1.5, **servers) as client:  # type: ignore[arg-type]  # by name
        client._parts.ledger.announce(MODEL)
        client.create_collection(collection_name, model="m")
        for _ in range(3):
            client.enqueue(collection_name, [Document(id="a", text="t")])
        assert client.receipt(collection_name, "a").state == "pending"
        assert not client.dead.list()
        assert not client.refused.list()
        with pytest.raises(NoWorker):
            client.search(collection_name, "t")
        assert connections(redis_url) == 3, "one of ours, and two of Celery's"
    eventually(lambda: connections(redis_url) == 0)


def test_a_client_that_is_closed_leaves_others_of_the_same_process_their_connections(
    redis_url: str, qdrant_server: QdrantServer, collection_name: str
) -> None:
    servers = {"qdrant_url": qdrant_server.url, "qdrant_grpc_port": qdrant_server.grpc_port}
    with Client(redis_url=redis_url, **servers) as client:  # type: ignore[arg-type]  # by name
        client._parts.ledger.announce(MODEL)
        client.create_collection(collection_name, model="m")
        failures = []
        for _ in range(2):
            try:
                client.enqueue(collection_name, [Document(id="a", text="t")])
            except RuntimeError as error:
                failures.append(error)
            with Client(redis_url=redis_url, **servers) as other:  # type: ignore[arg-type]  # by name
                other.enqueue(collection_name, [Document(id="b", text="t")])
        assert failures == []
