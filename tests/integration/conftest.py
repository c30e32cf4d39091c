"""The whole mill in this process, on local mode and on the real server alike (gRPC and REST); and its command line."""

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gristmill import Chunking, Client
from gristmill.cli.root import main
from places import PLACES, place_of
from services import QdrantServer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=PLACES)
def client(request: pytest.FixtureRequest, collection_name: str) -> Iterator[Client]:
    """A client with a collection in it that cuts texts into short chunks."""
    with Client.embedded(**place_of(request), model="hash:16", threads=4) as mill:
        mill.create_collection(collection_name, chunking=Chunking(size=16, overlap=4))
        yield mill


@pytest.fixture
def settings(redis_url: str, qdrant_server: QdrantServer) -> dict[str, Any]:
    """A mill of this test's own on the servers that all share."""
    return {
        "redis_url": redis_url,
        "key_prefix": f"t-{uuid.uuid4().hex[:8]}",
        "qdrant_url": qdrant_server.url,
        "qdrant_grpc_port": qdrant_server.grpc_port,
    }


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> None:
    """With servers and workers of a busy machine, unless a test says otherwise; the default is for people who wait."""
    monkeypatch.setenv("GRISTMILL_QUERY_TIMEOUT_S", "60")
    monkeypatch.setenv("GRISTMILL_REDIS_TIMEOUT_S", "60")


@pytest.fixture
def long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rests or pauses does so until the test says otherwise, however slow this machine is."""
    for name in ("handler._FIRST_REST_S", "handler._LONGEST_REST_S", "handler._LONGEST_ASKED_S"):
        monkeypatch.setattr(f"gristmill_worker.pipeline.{name}", 3600.0)
    for name in ("_FIRST_S", "_LONGEST_S"):
        monkeypatch.setattr(f"gristmill_worker.waiting.pause.{name}", 3600.0)


@pytest.fixture(autouse=True)
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A death waits for a sign that the system works: here there is none to come, or it comes at once."""
    monkeypatch.setattr("gristmill_worker.waiting.fuse.TRIAL_S", 0.1)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `gristmill` with arguments in this process; gives exit code, stdout and stderr."""

    monkeypatch.delenv(
        "COLUMNS", raising=False
    )  # which pytest-xdist sets, so that a pipe would be as wide as its terminal

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
