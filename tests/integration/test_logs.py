"""What a worker writes while its servers come and go: lines, each of them an event, and not many."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gristmill import Client, Document, Unavailable
from gristmill.settings import variable
from services import QdrantServer, RedisServer, WorkerProcess
from waiting import eventually

pytestmark = pytest.mark.server

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) +\d+ [\w.]+: \S")
#: What may come between two looks of ours, beside what is said of progress.
FEW = 12


@pytest.fixture
def servers(
    make_redis: Callable[..., RedisServer], make_qdrant: Callable[..., QdrantServer]
) -> tuple[RedisServer, QdrantServer]:
    return make_redis(), make_qdrant()


@pytest.fixture
def settings(servers: tuple[RedisServer, QdrantServer]) -> dict[str, str]:
    redis, qdrant = servers
    return {
        "redis_url": redis.url,
        "qdrant_url": qdrant.url,
        "qdrant_grpc_port": str(qdrant.grpc_port),
        "reconcile_every_s": "0.5",
        "server_wait_s": "1",
    }


@pytest.fixture
def worker(tmp_path: Path, settings: dict[str, str]) -> Iterator[WorkerProcess]:
    environment = {variable(name): value for name, value in settings.items()}
    with WorkerProcess(tmp_path / "worker", environment) as made:
        yield made


@pytest.fixture
def client(settings: dict[str, str]) -> Iterator[Client]:
    own = {name: settings[name] for name in ("redis_url", "qdrant_url")}
    with Client(**own, qdrant_grpc_port=int(settings["qdrant_grpc_port"])) as made:  # type: ignore[arg-type]  # by name
        yield made


def said(worker: WorkerProcess, before: int = 0) -> list[str]:
    """Lines since so many; each must be one by its form."""
    lines = worker.log_path.read_text().splitlines()
    assert [line for line in lines if not LINE.match(line)] == []
    return [line for line in lines[before:] if "process.watches" not in line]


def written(worker: WorkerProcess) -> int:
    """Lines so far."""
    return len(worker.log_path.read_text().splitlines())


@contextmanager
def burdened(worker: WorkerProcess, client: Client, name: str) -> Iterator[str]:
    """A job that the worker has yet to begin with when the block is left; what happens in it, happens under this load."""
    worker.pause()
    yield client.enqueue(name, [Document(id=f"d{n}", text=f"text number {n}") for n in range(2_000)]).id
    worker.resume()


def done(client: Client, job_id: str) -> bool:
    try:
        report = client.jobs.get(job_id).report()
    except Unavailable:
        return False
    return report.pending == 0


def test_whatever_goes_away_is_a_few_lines_and_no_traceback(
    worker: WorkerProcess, client: Client, servers: tuple[RedisServer, QdrantServer]
) -> None:
    redis, qdrant = servers
    for name in ("a", "b", "c"):
        client.create_collection(name, "hash:16", wait_s=60)

    before = written(worker)
    with burdened(worker, client, "a") as job:
        redis.kill()
    eventually(lambda: any("Redis at " in line for line in said(worker, before)))
    redis.start()
    eventually(lambda: done(client, job), within_s=120)
    lines = said(worker, before)
    assert len(lines) <= FEW, "\n".join(lines)
    assert any("GRISTMILL_REDIS_URL" in line for line in lines)
    assert not any("broker" in line.lower().split(": ", 1)[1] for line in lines)

    before = written(worker)
    with burdened(worker, client, "b") as job:
        qdrant.kill()
    eventually(
        lambda: any("no work is pulled" in line or "Qdrant" in line for line in said(worker, before)), within_s=60
    )
    qdrant.start()
    eventually(lambda: done(client, job), within_s=120)
    lines = said(worker, before)
    assert len(lines) <= FEW, "\n".join(lines)
    assert any("GRISTMILL_QDRANT_URL" in line for line in lines)

    before = written(worker)
    with burdened(worker, client, "c") as job:
        client.collections.delete("c")
    eventually(lambda: done(client, job), within_s=60)
    lines = said(worker, before)
    assert len(lines) <= FEW, "\n".join(lines)

    before = written(worker)
    with burdened(worker, client, "b"), closing(qdrant.client()) as other:
        other.delete_collection("b")
    eventually(lambda: any("does not exist" in line for line in said(worker, before)))
    worker.stop()
    lines = said(worker, before)
    assert len(lines) <= FEW, "\n".join(lines)
    assert any("draining" in line for line in lines)
