"""Several workers take the queries of one model: one that stops, hangs, drains or falls sick costs nobody an answer."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from gristmill import Client, NoWorker, WaitTimeout
from gristmill.ledger import RedisLedger
from gristmill.ledger.connection import connect
from gristmill.search import query_channel
from gristmill.search.query_channel import LaneChannel, QueryChannel, new_token, query_queue
from gristmill.search.query_vectors import WorkerQueryEncoder
from gristmill.settings import load_settings, variable
from gristmill.store.collections import Collections
from gristmill.store.connection import open_local_store
from gristmill_schemas import QueryRequest
from gristmill_schemas.query import unpack_answer
from gristmill_worker.encoder import TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.process.host import Host
from gristmill_worker.process.queries.lane import QueryLane
from gristmill_worker.settings import WorkerSettings
from services import QdrantServer, WorkerProcess
from waiting import eventually

pytestmark = pytest.mark.server
SPACE = HashEncoder(16).info.space()
Started = Callable[..., "Worker"]


class Gated(HashEncoder):
    """Encodes while its gate is open."""

    def __init__(self) -> None:
        super().__init__(16)
        self.gate = threading.Event()
        self.gate.set()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        assert self.gate.wait(60)
        return super().launch(batch)


class Worker:
    """A worker's engine with its query lane, in this process."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.encoder = Gated()
        self._client = connect(settings)
        self._store = open_local_store(":memory:")
        ledger, collections = RedisLedger(settings, self._client), Collections(self._store, local=True)
        self.host = Host(settings, ledger, self._store, collections, lambda digest, count: None)
        self.engine = self.host.add(self.encoder)
        self._counts = self.host.queries[self.engine.digest]
        self.host.start()
        self.lane = QueryLane(
            settings, self._client, self.engine, self._counts, self.host.clock, self.host.notices, self.host.draining
        )

    def fate(self, name: Any) -> int:
        return self._counts.all()[name]

    def age(self) -> None:
        """Whatever it holds has used up half of its time, as after half a minute."""
        for held in [*self.lane._holding._held]:
            held.taken_at -= 3600

    def close(self) -> None:
        self.encoder.gate.set()
        self.lane.close()
        self.host.close()
        self._client.close()
        self._store.close()


@pytest.fixture
def settings(redis_url: str) -> WorkerSettings:
    return load_settings(WorkerSettings, redis_url=redis_url, query_timeout_s=60)


@pytest.fixture
def long_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is taken for silent, however slow this machine is."""
    monkeypatch.setattr(query_channel, "_SILENT_S", 3600.0)


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(redis.Redis.from_url(redis_url)) as broker:
        yield broker


@pytest.fixture
def start(settings: WorkerSettings, broker: redis.Redis, long_silence: None) -> Iterator[Started]:
    with contextlib.ExitStack() as closing:

        def begin() -> Worker:
            worker = Worker(settings)
            closing.callback(worker.close)
            before = broker.zcard(lanes(settings))
            worker.lane.start()
            eventually(lambda: broker.zcard(lanes(settings)) > before)
            return worker

        yield begin


@pytest.fixture
def asker(settings: WorkerSettings) -> Iterator[WorkerQueryEncoder]:
    with contextlib.closing(connect(settings)) as client:
        yield WorkerQueryEncoder(settings, client, RedisLedger(settings, client))


def queue_of(settings: WorkerSettings) -> str:
    return query_queue(settings.key_prefix, SPACE.model_digest)


def lanes(settings: WorkerSettings) -> str:
    return f"{queue_of(settings)}:lanes"


def lanes_of(settings: WorkerSettings, broker: redis.Redis) -> list[str]:
    found: Any = broker.zrange(lanes(settings), 0, -1)
    return [each.decode() for each in found]


def ask_all(asker: WorkerQueryEncoder, count: int, at_once: int = 8) -> None:
    """Ask so many queries, each of which must have its right answer."""
    texts, truth = [f"query {number}" for number in range(count)], HashEncoder(16)
    with ThreadPoolExecutor(at_once) as pool:
        found = list(pool.map(lambda text: asker.encode(SPACE, [text])[0], texts))
    assert np.allclose(np.stack(found), truth.encode(truth.tokenize(texts)))


def a_request() -> QueryRequest:
    return QueryRequest(token=new_token(), model_digest=SPACE.model_digest, dimensions=16, texts=("which mill?",))


def test_a_worker_that_hangs_takes_little_and_gives_it_back(start: Started, asker: WorkerQueryEncoder) -> None:
    stuck = start()
    stuck.encoder.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(asker.encode, SPACE, ["query"])
        eventually(lambda: stuck.engine.batcher.busy_since)
        well = start()
        stuck.age()
        assert answer.result().shape == (1, 16)
    ask_all(asker, 60)
    assert (stuck.fate("given_back"), well.fate("answered")) == (1, 61)


def test_a_worker_that_begins_to_hang_costs_nobody_an_answer(start: Started, asker: WorkerQueryEncoder) -> None:
    stuck, _ = start(), start()
    ask_all(asker, 60)
    stuck.encoder.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_all, asker, 60)
        while not asked.done():
            stuck.age()
            wait([asked], timeout=0.05)
        asked.result()


def test_a_worker_that_drains_takes_no_more(
    start: Started, asker: WorkerQueryEncoder, settings: WorkerSettings, broker: redis.Redis
) -> None:
    leaving, staying = start(), start()
    leaving.host.drain()
    eventually(lambda: broker.zcard(lanes(settings)) == 1)
    taken = leaving.fate("answered")
    ask_all(asker, 20)
    assert (leaving.fate("answered"), staying.fate("answered")) == (taken, 20)


def test_queries_that_a_worker_has_no_time_left_for_go_to_another(start: Started, asker: WorkerQueryEncoder) -> None:
    leaving = start()
    leaving.encoder.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(asker.encode, SPACE, ["query"])
        eventually(lambda: leaving.engine.batcher.busy_since)
        start()
        leaving.engine.batcher.abandon()
        leaving.encoder.gate.set()
        assert answer.result().shape == (1, 16)


def test_a_query_that_a_lost_answer_of_redis_left_behind_is_found(
    start: Started, settings: WorkerSettings, broker: redis.Redis
) -> None:
    start()
    channel, request = QueryChannel(settings.key_prefix, broker), a_request()
    body = request.model_dump_json(exclude={"deadline_us"})
    deadline_us = int((RedisLedger(settings, broker).now() + 60) * 1e6)
    held = f'{{"deadline_us":{deadline_us},{body[1:]}'
    broker.rpush(f"{queue_of(settings)}:held:{lanes_of(settings, broker)[0]}", held)
    assert unpack_answer(eventually(lambda: channel.fetch(request.token, 1)) or b"").texts == 1


@pytest.mark.usefixtures("long_silence")
def test_what_a_silent_worker_holds_is_taken_over_but_not_for_ever(
    settings: WorkerSettings, broker: redis.Redis
) -> None:
    channel = QueryChannel(settings.key_prefix, broker)
    assert channel.ask(a_request(), 60)
    bodies = []
    for _ in range(4):
        silent, heir = (LaneChannel(settings.key_prefix, broker, SPACE.model_digest) for _ in range(2))
        silent.beat()
        if body := silent.take(0.1):
            bodies.append(body)
        assert heir.beat() == (0, 0), "it was heard of just now"
        broker.zadd(lanes(settings), dict.fromkeys(lanes_of(settings, broker), 1))
        assert heir.beat() == (len(bodies) < 3, 0)
    assert len(bodies) == 3, "a query that ends every worker is not given to more and more of them"
    assert len({QueryRequest.read_json(body).token for body in bodies}) == 1


def test_an_answer_takes_back_what_went_back_to_the_queue(settings: WorkerSettings, broker: redis.Redis) -> None:
    channel, request = QueryChannel(settings.key_prefix, broker), a_request()
    lane = LaneChannel(settings.key_prefix, broker, SPACE.model_digest)
    lane.beat()
    assert channel.ask(request, 60)
    body = lane.take(1)
    assert body is not None
    assert lane.give_back(body)
    assert broker.llen(queue_of(settings)) == 1
    assert lane.answer(body, request.token, b"answer", 60)
    assert broker.llen(queue_of(settings)) == 0
    assert channel.fetch(request.token, 1) == b"answer"


def test_a_query_for_a_model_that_nobody_serves_is_refused_before_it_is_queued(
    asker: WorkerQueryEncoder, settings: WorkerSettings, broker: redis.Redis
) -> None:
    with pytest.raises(NoWorker, match=r"no running worker serves hash:16.*gristmill worker --model hash:16"):
        asker.encode(SPACE, ["query"])
    assert broker.exists(queue_of(settings)) == 0


def test_a_worker_that_only_the_roster_knows_is_waited_for(
    asker: WorkerQueryEncoder, settings: WorkerSettings, broker: redis.Redis
) -> None:
    with contextlib.closing(connect(settings)) as client:
        RedisLedger(settings, client).heartbeat("w", {"engines": [{"model_digest": SPACE.model_digest}]}, ttl_s=60)
        brief = WorkerQueryEncoder(
            settings.model_copy(update={"query_timeout_s": 0.1}), client, RedisLedger(settings, client)
        )
        with pytest.raises(WaitTimeout):
            brief.encode(SPACE, ["query"])


@pytest.mark.parametrize("sent", [signal.SIGSTOP, signal.SIGKILL])
def test_of_two_workers_one_stops_in_the_middle_and_no_query_is_lost(
    sent: signal.Signals, redis_url: str, qdrant_server: QdrantServer, collection_name: str, tmp_path: Path
) -> None:
    known: dict[str, Any] = {
        "redis_url": redis_url,
        "key_prefix": f"t-{uuid.uuid4().hex[:8]}",
        "qdrant_url": qdrant_server.url,
        "qdrant_grpc_port": qdrant_server.grpc_port,
        "query_timeout_s": 60,
    }
    environment = {variable(name): str(value) for name, value in known.items()}
    with contextlib.ExitStack() as running:
        one, _ = (running.enter_context(WorkerProcess(tmp_path / name, environment)) for name in ("one", "other"))
        client = running.enter_context(Client(**known))
        client.create_collection(collection_name, "hash:16", wait_s=60)
        asked, lock = iter(range(200)), threading.Lock()

        def ask(_: int) -> int:
            with lock:
                if (number := next(asked)) == 60:
                    os.kill(one.pid, sent)
            return client.embed(f"query {number}", collection=collection_name).size

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(ask, range(200))) == [16] * 200
        if sent is signal.SIGSTOP:
            os.kill(one.pid, signal.SIGCONT)
