"""The whole mill in this process, over local mode and over the real server: one test, every backend."""

from collections.abc import Iterator

import pytest

from gristmill import Chunking, Client
from services import QdrantServer


@pytest.fixture(params=["local", "server"])
def client(request: pytest.FixtureRequest, collection_name: str) -> Iterator[Client]:
    """A client with a collection in it that cuts texts into short chunks."""
    path, port = ":memory:", None
    if request.param == "server":
        server: QdrantServer = request.getfixturevalue("qdrant_server")
        path, port = server.url, server.grpc_port
    with Client.embedded(path, model="hash:16", threads=4, qdrant_grpc_port=port) as mill:
        mill.create_collection(collection_name, chunking=Chunking(size=16, overlap=4))
        yield mill
