"""Qdrant's answers come as they are, which costs both ends less; over a slow line it compresses them if asked."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from qdrant_client import models

from gristmill.settings import ClientSettings, load_settings
from gristmill.store.connection import open_store
from services import QdrantServer
from services.relay import Relay

#: Of one text, which compresses to a hundredth of it.
LONG = 50_000


@pytest.mark.parametrize("over", ["gRPC", "REST"])
@pytest.mark.parametrize("asked", [None, False, True])
def test_qdrant_compresses_its_answers_only_where_that_is_asked_for(
    qdrant_server: QdrantServer, collection_name: str, over: str, asked: bool | None
) -> None:
    with closing(qdrant_server.client()) as plain:
        plain.create_collection(collection_name, models.VectorParams(size=4, distance=models.Distance.DOT))
        point = models.PointStruct(id=1, vector=[1.0] * 4, payload={"text": "rye " * (LONG // 4)})
        plain.upsert(collection_name, [point], wait=True)
    rest, grpc = Relay(qdrant_server.http_port), Relay(qdrant_server.grpc_port)
    given: dict[str, Any] = {} if asked is None else {"qdrant_compression": asked}
    with rest, grpc:
        settings = load_settings(
            ClientSettings,
            qdrant_url=f"http://127.0.0.1:{rest.port}",
            qdrant_grpc_port=grpc.port,
            qdrant_prefer_grpc=over == "gRPC",
            **given,
        )
        with closing(open_store(settings)) as store:
            (found,) = store.retrieve(collection_name, [1])
    assert found.payload == point.payload
    there = {"gRPC": grpc, "REST": rest}[over]
    if asked:
        assert 0 < there.received < LONG / 10
    else:
        assert there.received > LONG
