"""The whole mill in this process, over local mode and over the real server: one test, every backend."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from gristmill import Chunking, Client, ClientSettings
from gristmill.collections import Collections
from gristmill.settings import load_settings
from gristmill.store import open_store
from services import QdrantServer


@pytest.fixture(params=["local", "server"])
def client(request: pytest.FixtureRequest, collection_name: str) -> Iterator[Client]:
    """The whole mill in this process, writing to local mode or to the real server, with a collection in it."""
    with ExitStack() as closing:
        options: dict[str, Any] = {}
        if request.param == "server":
            server: QdrantServer = request.getfixturevalue("qdrant_server")
            options = {"qdrant_url": server.url, "qdrant_grpc_port": server.grpc_port}
        mill = closing.enter_context(embedded(closing, options))
        mill.create_collection(collection_name, chunking=Chunking(size=16, overlap=4))
        yield mill


def embedded(closing: ExitStack, server: dict[str, Any]) -> Client:
    """An embedded client; with a server's address its store is that server."""
    mill = Client.embedded(model="hash:16", threads=4)
    if server:
        store = open_store(load_settings(ClientSettings, **server))
        closing.callback(store.close)
        # The engine's sink and the client's readers must see the same store.
        mill._parts = replace(mill._parts, store=store, local=False)
        mill.collections = Collections(store, deleted=mill._parts.evidence.forget)
        engine: Any = mill._parts.dispatcher._engine  # type: ignore[attr-defined]  # embedded mode's own
        engine.pipeline._sink._store = store
        engine.pipeline._collections = Collections(store)
    return mill
