"""The Redis behind the address is another one than before: emptied, replaced, demoted, or moved by Sentinel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gristmill import Client, Document
from gristmill.settings import variable
from gristmill_schemas.errors import NoWorker, WaitTimeout
from services import QdrantServer, RedisServer, WorkerProcess
from services.relay import Relay
from services.sentinel import MASTER, SentinelServer
from waiting import eventually

#: For what a Sentinel does, which looks only every ten seconds.
SENTINEL_S = 150.0
MakeRedis = Callable[..., RedisServer]
StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    with contextlib.ExitStack() as closing:

        def start(settings: Mapping[str, Any]) -> WorkerProcess:
            environment = {variable(name): str(value) for name, value in settings.items()}
            return closing.enter_context(WorkerProcess(tmp_path / "worker", environment))

        yield start


def settings_of(redis_url: str, qdrant: QdrantServer, **more: Any) -> dict[str, Any]:
    return {"redis_url": redis_url, "qdrant_url": qdrant.url, "qdrant_grpc_port": qdrant.grpc_port, **more}


def empty(server: RedisServer) -> None:
    with contextlib.closing(server.client()) as client:
        client.flushall()
        client.script_flush()


def replace(server: RedisServer) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize("lose", [empty, replace], ids=["FLUSHALL", "restart"])
def test_a_worker_whose_redis_lost_everything_announces_itself_and_works_on(
    lose: Callable[[RedisServer], None],
    make_redis: MakeRedis,
    qdrant_server: QdrantServer,
    start_worker: StartWorker,
    collection_name: str,
) -> None:
    server = make_redis(appendfsync=None)
    settings = settings_of(server.url, qdrant_server)
    worker = start_worker(settings)
    pid = worker.pid
    with Client(**settings) as client:
        client.create_collection(collection_name, "hash:16")
        assert client.enqueue(collection_name, [Document(id="before", text="rye")]).wait(60).stored == 1
        lose(server)
        client.create_collection(f"{collection_name}-new", "hash:16", wait_s=60)
        for name in (collection_name, f"{collection_name}-new"):
            report = client.enqueue(name, [Document(id="after", text="oats")]).wait(60)
            assert report.stored == 1
            assert client.search(name, "oats", limit=1)[0].id == "after"
            assert client.receipt(name, "after").state == "stored"
    assert worker.pid == pid
    assert worker.running


def demote(former: RedisServer, primary: RedisServer) -> None:
    """What a failover does: the replica is promoted, and the former primary follows it."""
    with contextlib.closing(former.client()) as old, contextlib.closing(primary.client()) as new:
        new.replicaof("NO", "ONE")
        old.replicaof("127.0.0.1", str(primary.port))


def follow(replica: RedisServer, primary: RedisServer) -> None:
    with contextlib.closing(replica.client()) as client:
        client.replicaof("127.0.0.1", str(primary.port))
        eventually(lambda: client.info("replication")["master_link_status"] == "up")


def test_after_a_failover_behind_one_address_connections_to_the_former_primary_end(
    make_redis: MakeRedis, qdrant_server: QdrantServer, start_worker: StartWorker, collection_name: str
) -> None:
    first, second = make_redis(), make_redis()
    follow(second, first)
    with Relay(first.port) as name:
        settings = settings_of(f"redis://127.0.0.1:{name.port}/0", qdrant_server)
        worker = start_worker(settings)
        with Client(**settings) as client:
            client.create_collection(collection_name, "hash:16")
            assert client.enqueue(collection_name, [Document(id="before", text="rye")]).wait(60).stored == 1
            name.target = second.port
            demote(first, second)
            report = client.enqueue(collection_name, [Document(id="after", text="oats")]).wait(60)
            assert report.stored == 1
            assert client.search(collection_name, "oats", limit=1)[0].id == "after"
        assert worker.running
    assert "Traceback" not in worker.log_path.read_text()


def test_sentinel_says_where_the_primary_is_and_where_it_went(
    make_redis: MakeRedis,
    make_sentinel: Callable[..., SentinelServer],
    qdrant_server: QdrantServer,
    start_worker: StartWorker,
    collection_name: str,
) -> None:
    first, second = (make_redis(password="rye", options={"masterauth": "rye"}) for _ in range(2))
    follow(second, first)
    sentinel = make_sentinel(primary=first, password="oats")
    # One that finds that it was not run for a while does nothing for half a minute.
    eventually(sentinel.knows_a_replica, SENTINEL_S)
    url = f"sentinel://:rye@127.0.0.1:{sentinel.port},127.0.0.1:1/1?master_name={MASTER}&sentinel_password=oats"
    settings = settings_of(url, qdrant_server)
    worker = start_worker(settings)
    with Client(**settings) as client:
        client.create_collection(collection_name, "hash:16")
        assert client.enqueue(collection_name, [Document(id="before", text="rye")]).wait(60).stored == 1
        eventually(sentinel.fail_over, SENTINEL_S)
        eventually(lambda: sentinel.primary() == second.port, SENTINEL_S)
        assert client.enqueue(collection_name, [Document(id="after", text="oats")]).wait(60).stored == 1
        assert client.search(collection_name, "oats", limit=1)[0].id == "after"
    with contextlib.closing(second.client(1)) as there:
        assert there.dbsize() > 0
    assert worker.running


def test_queries_are_answered_though_redis_may_be_silent_for_no_longer_than_they_wait(
    make_redis: MakeRedis,
    qdrant_server: QdrantServer,
    start_worker: StartWorker,
    collection_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One blocking read takes longer here than the connection waits before it gives up."""
    monkeypatch.setattr("gristmill.search.query_vectors._LOOK_S", 100.0)
    settings = settings_of(f"{make_redis().url}?socket_timeout=6", qdrant_server)
    worker = start_worker(settings)
    with Client(**settings) as client:
        client.create_collection(collection_name, "hash:16")
        assert client.enqueue(collection_name, [Document(id="a", text="rye")]).wait(60).stored == 1
        assert client.search(collection_name, "rye")[0].id == "a"
    with Client(**settings, query_timeout_s=7) as client:
        worker.pause()
        with pytest.raises((NoWorker, WaitTimeout)):
            client.search(collection_name, "oats")
        worker.resume()
