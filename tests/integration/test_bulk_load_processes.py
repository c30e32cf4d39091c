"""A bulk load whose client was killed, and a worker in a process of its own: the index comes back, and `doctor` tells."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from gristmill import Client
from gristmill.settings import variable
from gristmill_worker.encoder.hash_encoder import HashEncoder
from places import ways_to
from services import QdrantServer, WorkerProcess
from services.process import changed
from waiting import eventually

pytestmark = pytest.mark.server
Run = Callable[..., tuple[int, str, str]]

#: Begins a load, hands documents over, and is killed.
KILLED = """
import os, signal, sys
from gristmill import Client
name, count = sys.argv[1], int(sys.argv[2])
client = Client()
load = client.bulk(name)
load.__enter__()
client.enqueue(name, [{"id": str(n), "text": f"text number {n}"} for n in range(count)])
print("holds", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


class OftenLooking(WorkerProcess):
    """A worker that looks for loads that are over every second."""

    def command(self) -> list[str]:
        return changed("from gristmill_worker.process import app; app.BULK_PERIOD_S = 1.0", super().command())


@pytest.fixture
def store(qdrant_server: QdrantServer) -> Iterator[QdrantClient]:
    with contextlib.closing(qdrant_server.client()) as client:
        yield client


@pytest.fixture
def settings(
    request: pytest.FixtureRequest,
    redis_url: str,
    qdrant_server: QdrantServer,
    collection_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    """Settings for everybody, which this process and those that it starts find in their environment."""
    found = {
        "redis_url": redis_url,
        "key_prefix": f"t-{collection_name}",
        "qdrant_url": qdrant_server.url,
        **ways_to(qdrant_server, request.param),
    }
    for name, value in found.items():
        monkeypatch.setenv(variable(name), str(value))
    return found


def killed_while_loading(name: str, documents: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, name, str(documents)], capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.returncode) == ("holds\n", -9), ended.stderr


def about_bulk_loads(run: Run) -> str:
    """What `gristmill doctor` says of them."""
    _, out, _ = run("doctor", "--json")
    checks = json.loads(out)["checks"]
    return next(str(check["detail"]) for check in checks if check["name"] == "bulk")


def is_off(store: QdrantClient, name: str) -> bool:
    config = store.get_collection(name).config
    return config.optimizer_config.indexing_threshold == 0 and config.hnsw_config.m == 0


@pytest.mark.parametrize(
    ("settings", "documents"), [("server", 20), ("rest", 0)], indirect=["settings"], ids=["gRPC", "REST"]
)
def test_a_worker_switches_the_index_on_after_whoever_loaded_was_killed_and_doctor_tells_before_and_after(
    settings: dict[str, Any], documents: int, store: QdrantClient, collection_name: str, run: Run, tmp_path: Path
) -> None:
    with Client() as client:
        client.create_collection(collection_name, space=HashEncoder(16).info.space())
    killed_while_loading(collection_name, documents)
    assert is_off(store, collection_name)
    told = about_bulk_loads(run)
    assert f"searches are slow in {collection_name} since " in told
    assert "`gristmill collections finish-bulk NAME` ends it" in told
    environment = {variable(name): str(value) for name, value in settings.items()}
    with OftenLooking(tmp_path / "worker", environment):
        eventually(lambda: not is_off(store, collection_name), 120)
        with Client() as client:
            assert client.count(collection_name) == documents, "what was on its way came first"
            assert client.collections.get(collection_name).bulk_since is None
    assert collection_name not in about_bulk_loads(run)
