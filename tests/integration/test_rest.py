"""Without gRPC: the same vectors, smaller requests, and proxies that may say anything."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from gristmill import Client, Document
from gristmill.settings import ClientSettings, load_settings
from gristmill.store.connection import open_store
from gristmill.store.points import upsert
from gristmill_schemas import CollectionSpec, Deletion, JobReport
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.pipeline.sink import older_than
from interleaving import CHUNK_WORDS, Stage
from places import ways_to
from services import QdrantServer, WorkerProcess, free_port
from services.model_server import Answer
from services.proxy import Fault, Proxy

pytestmark = pytest.mark.server
NGINX_404 = Answer(404, b"<html><head><title>404 Not Found</title></head></html>", "text/html")


@pytest.fixture
def proxy(qdrant_server: QdrantServer) -> Iterator[Proxy]:
    """Before the server, passing everything on."""
    with Proxy(qdrant_server.url) as made:
        yield made


@pytest.fixture
def stage(proxy: Proxy, collection_name: str) -> Iterator[Stage]:
    """A worker's way over the proxy; vectors of 256 numbers."""
    settings = load_settings(ClientSettings, qdrant_url=proxy.url, qdrant_prefer_grpc=False)
    with closing(Stage(open_store(settings), name=collection_name, encoder=HashEncoder(256))) as made:
        yield made


def words(count: int, letter: str = "w") -> str:
    return " ".join(f"{letter}{n}" for n in range(count))


# vectors


def test_vectors_keep_every_bit_on_their_way_through_json(qdrant_server: QdrantServer, collection_name: str) -> None:
    generator = np.random.default_rng(1)
    exponents = generator.integers(-126, 127, size=(64, 32))
    vectors = (generator.standard_normal((64, 32)) * 2.0**exponents).astype(np.float32)
    limits = np.finfo(np.float32)
    vectors[0, :6] = np.array([0.0, -0.0, limits.max, limits.tiny, 1e-45, 1 / 3], dtype=np.float32)
    points: list[tuple[str, Any, dict[str, Any]]] = [
        (f"00000000-0000-4000-8000-{n:012}", row, {}) for n, row in enumerate(vectors)
    ]
    plain = models.VectorParams(size=32, distance=models.Distance.DOT)
    with (
        closing(qdrant_server.client(prefer_grpc=False)) as rest,
        closing(qdrant_server.client()) as grpc,
    ):
        rest.create_collection(collection_name, plain)
        spec = CollectionSpec(name=collection_name, space=HashEncoder(32).info.space())
        upsert(rest, spec, points, older_than(1))
        held = grpc.retrieve(collection_name, [point[0] for point in points], with_vectors=True)
    read = {point.id: np.array(point.vector, dtype=np.float32).tobytes() for point in held}
    assert read == {point: row.tobytes() for point, row, _ in points}


# sizes


def test_requests_shrink_to_what_a_proxy_lets_through_and_stay_so(
    stage: Stage, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.most_bytes = 100_000
    report = stage.deliver(*(Document(id=str(n), text=f"text {n}") for n in range(64)))
    assert (report.stored, report.dead) == (64, 0)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 2, "each time that they shrink"
    assert "client_max_body_size" in lines[0]


@pytest.mark.parametrize("change", ["metadata", "version", "text", "deletion"])
def test_changes_of_long_documents_are_cut_into_what_a_proxy_lets_through(
    stage: Stage, proxy: Proxy, change: str
) -> None:
    text, metadata = words(40 * CHUNK_WORDS), {"note": "x" * 3_000}
    before = [Document(id=str(n), text=text, metadata=metadata, version=1) for n in range(3)]
    assert stage.deliver(*before).stored == 3
    proxy.most_bytes = 30_000
    match change:
        case "metadata":
            stage.deliver(*(Document(id=str(n), text=text, metadata={"note": "y" * 3_000}) for n in range(3)))
        case "version":
            stage.deliver(*(Document(id=str(n), text=text, metadata=metadata) for n in range(3)))
        case "text":
            stage.deliver(*(Document(id=str(n), text="short", metadata=metadata) for n in range(3)))
        case "deletion":
            stage.deliver(*(Deletion(id=str(n)) for n in range(3)))
    report = stage.reports()[-1]
    assert (report.dead, report.finished) == (0, 3)
    held = stage.points().values()
    assert len({system.version for system, _ in held}) == (0 if change == "deletion" else 1)
    assert len(held) == {"metadata": 120, "version": 120, "text": 3, "deletion": 0}[change]


def test_a_document_that_no_proxy_lets_through_is_dead_with_the_reason_and_its_neighbours_live(
    stage: Stage, proxy: Proxy
) -> None:
    proxy.most_bytes = 20_000
    large = Document(id="large", text="t", metadata={"note": "x" * 30_000})
    report = stage.deliver(large, *(Document(id=str(n), text=f"text {n}") for n in range(9)))
    assert (report.stored, report.dead) == (9, 1)
    (letter,) = stage.ledger.dead_letters(10)
    assert letter.document is not None
    assert letter.document.id == "large"
    assert "413" in letter.reason


# answers of others


WHATS: dict[str, Fault] = {
    "everything": lambda method, path: NGINX_404,
    "points": lambda method, path: NGINX_404 if "/points" in path else None,
    "a page of 200": lambda method, path: Answer(200, b"<html>sign in</html>", "text/html"),
    "another's JSON": lambda method, path: Answer(200, b'{"ok": true}'),
    "maintenance": lambda method, path: Answer(503, b"<html>back soon</html>", "text/html"),
}


@pytest.mark.parametrize("what", WHATS)
def test_whatever_a_proxy_says_costs_no_document_anything(stage: Stage, proxy: Proxy, what: str) -> None:
    """Neither is the collection gone, nor is anything stored that is not, nor an attempt spent."""
    handler = stage.pipeline()
    stage.accept([Document(id="a", text="t")])
    proxy.fault = WHATS[what]
    for _ in range(5):
        handler.process()
        stage.end_delays()
    (report,) = stage.reports()
    assert (report.pending, report.gone, report.stored, report.dead) == (1, 0, 0, 0)
    proxy.fault = None
    stage.work_off(handler)
    assert stage.reports()[-1].stored == 1
    ((system, _),) = stage.points().values()
    assert system.attempts == 1


# said once


@pytest.fixture
def start_worker(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, qdrant_server: QdrantServer
) -> Iterator[Callable[..., WorkerProcess]]:
    made: list[WorkerProcess] = []

    def start(**settings: object) -> WorkerProcess:
        ways = {"redis_url": redis_url, "qdrant_url": qdrant_server.url, **settings}
        environment = {f"GRISTMILL_{name}".upper(): str(value) for name, value in ways.items()}
        made.append(WorkerProcess(tmp_path_factory.mktemp("worker"), environment))
        return made[-1]

    yield start
    for worker in made:
        worker.stop()


def test_a_worker_without_grpc_says_so_once_and_works(
    start_worker: Callable[..., WorkerProcess], redis_url: str, qdrant_server: QdrantServer, collection_name: str
) -> None:
    worker = start_worker(**ways_to(qdrant_server, "rest")).start()
    with Client(redis_url=redis_url, qdrant_url=qdrant_server.url, **ways_to(qdrant_server, "rest")) as client:
        client.create_collection(collection_name, "hash:16", wait_s=60)
        report: JobReport = client.enqueue(collection_name, [Document(id="a", text="t")]).wait(60)
        assert report.stored == 1
        assert [hit.id for hit in client.search(collection_name, "t")] == ["a"]
    said = [line for line in worker.log_path.read_text().splitlines() if "GRISTMILL_QDRANT_PREFER_GRPC=false" in line]
    assert len(said) == 1
    assert "slower" in said[0]


def test_a_worker_whose_grpc_port_leads_nowhere_ends_with_the_way_out(
    start_worker: Callable[..., WorkerProcess],
) -> None:
    worker = start_worker(qdrant_grpc_port=free_port(), start_wait_s=2)
    worker.launch()
    with pytest.raises(Exception, match=r"GRISTMILL_QDRANT_GRPC_PORT[\s\S]*GRISTMILL_QDRANT_PREFER_GRPC=false"):
        worker.wait_ready()


def test_doctor_says_which_way_points_go_and_what_to_do_where_it_is_closed(
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    qdrant_server: QdrantServer,
) -> None:
    monkeypatch.setenv("GRISTMILL_REDIS_URL", redis_url)
    monkeypatch.setenv("GRISTMILL_QDRANT_URL", qdrant_server.url)
    monkeypatch.setenv("GRISTMILL_QDRANT_GRPC_PORT", str(free_port()))

    def qdrant() -> tuple[bool, str]:
        found = json.loads(run("doctor", "--json")[1])
        (check,) = (each for each in found["checks"] if each["name"] == "qdrant")
        return check["ok"], check["detail"]

    ok, detail = qdrant()
    assert not ok
    assert "GRISTMILL_QDRANT_GRPC_PORT" in detail
    assert "GRISTMILL_QDRANT_PREFER_GRPC=false" in detail
    monkeypatch.setenv("GRISTMILL_QDRANT_PREFER_GRPC", "false")
    ok, detail = qdrant()
    assert ok
    assert "slower" in detail
