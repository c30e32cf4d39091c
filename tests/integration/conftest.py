"""The whole mill in this process, over local mode and over the real server alike; and its command line."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gristmill import Chunking, Client
from gristmill.cli.root import main
from services import QdrantServer

Run = Callable[..., tuple[int, str, str]]


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


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `gristmill` with arguments in this process; gives exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gristmill", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every command of this test works on one folder, without servers."""
    monkeypatch.setenv("GRISTMILL_EMBEDDED_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("GRISTMILL_MODEL", "hash:64")
    return tmp_path
