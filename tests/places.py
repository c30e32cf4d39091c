"""Where the same tests run: in Qdrant's local mode, on the real server over gRPC, and on it over REST."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import QdrantClient

from services import QdrantServer

#: Parameters of a fixture that asks `place_of` or `store_of`. Those that need the server are marked as such in `conftest`.
PLACES = ("local", "server", "rest")


def place_of(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Arguments of `Client.embedded` for a fixture's parameter."""
    if request.param == "local":
        return {}
    return {"path": _server(request).url, **ways_to(_server(request), request.param)}


def ways_to(server: QdrantServer, place: str = "server") -> dict[str, Any]:
    """Settings that lead to a server over gRPC, or over REST alone: then nothing listens at the gRPC port."""
    if place == "rest":
        return {"qdrant_grpc_port": 1, "qdrant_prefer_grpc": False}
    return {"qdrant_grpc_port": server.grpc_port}


def store_of(request: pytest.FixtureRequest) -> QdrantClient | None:
    """A client for a fixture's parameter; None for local mode."""
    if request.param == "local":
        return None
    return _server(request).client(prefer_grpc=request.param == "server")


def _server(request: pytest.FixtureRequest) -> QdrantServer:
    server: QdrantServer = request.getfixturevalue("qdrant_server")
    return server
