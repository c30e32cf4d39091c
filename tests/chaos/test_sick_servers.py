"""A store that is wrong, wiped or limited, a Redis that is full or takes no writes: work waits, and nobody is buried."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
from qdrant_client import models
from redis import Redis

from chaos.mill import Conclude, MakeMill, Meanwhile, Mill, Stop, ingest, send_off, texts_of
from chaos.verdict import add_up, judge, settled, workers
from gristmill import Client
from gristmill.settings import variable
from gristmill_worker.encoder.hash_encoder import HashEncoder
from services import QdrantServer
from waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
SHORT_OR_LONG = [pytest.param(1, id="short"), pytest.param(10, id="long", marks=pytest.mark.soak)]
MakeQdrant = Callable[..., QdrantServer]


# a wrong store, a wiped store


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
@pytest.mark.parametrize("holds", ["nothing", "other collections"])
def test_a_worker_at_the_wrong_store_leaves_the_work_to_the_other(
    holds: str, scale: int, mill: MakeMill, conclude: Conclude, make_qdrant: MakeQdrant
) -> None:
    wrong = make_qdrant()
    address = {variable("qdrant_url"): wrong.url, variable("qdrant_grpc_port"): str(wrong.grpc_port)}
    made, started = mill(workers=2, each={1: address}), time.monotonic()
    if holds == "other collections":
        fill(wrong, made)
    texts = texts_of(320 * scale)
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, wait_s=60)
        eventually(lambda: len(workers(client)) == 2)
        reports = settled(client, [send_off(client, texts)], deadline_s=60 * scale)
        conclude(add_up(judge(client, "c", texts), reports, made.done, started))
        assert sum(report.stored for report in reports) == len(texts), "what was not deleted is not gone"
        client.collections.delete("c")


def fill(server: QdrantServer, made: Mill) -> None:
    """Give it a collection of Gristmill's and one of somebody else's."""
    with made.client(qdrant_url=server.url, qdrant_grpc_port=server.grpc_port, key_prefix="other") as client:
        client.create_collection("theirs", space=HashEncoder(32).info.space())
    with closing(server.client()) as store:
        store.create_collection("foreign", models.VectorParams(size=4, distance=models.Distance.DOT))


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
def test_what_waits_for_a_wiped_store_is_stored_once_its_collection_is_there_again(
    scale: int, mill: MakeMill, conclude: Conclude
) -> None:
    made, started = mill(workers=2), time.monotonic()
    qdrant, texts = made.qdrant, texts_of(640 * scale)
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, wait_s=60)
        settled(client, [send_off(client, texts_of(64, first=1_000_000))], deadline_s=30)
        made.signal_all(SIGSTOP)
        job = send_off(client, texts)
        qdrant.kill()
        qdrant.wipe()
        qdrant.start()
        made.signal_all(SIGCONT)
        eventually(lambda: waiting(client) or client.jobs.get(job).report().finished, 60)
        client.create_collection("c", made.model, wait_s=60)
        reports = settled(client, [job], deadline_s=60 * scale)
        conclude(add_up(judge(client, "c", texts), reports, made.done, started))
        assert sum(report.stored for report in reports) == len(texts), "what was not deleted is not gone"
        client.collections.delete("c")


def waiting(client: Client) -> list[object]:
    """What the workers say they wait for."""
    return [status["waiting_for"] for status in workers(client).values() if status["waiting_for"]]


# a limited collection


def test_a_limited_collection_does_not_hold_up_its_neighbour(mill: MakeMill, conclude: Conclude) -> None:
    made, started = mill(workers=2), time.monotonic()
    limited, healthy = texts_of(1_920), texts_of(640)
    with made.running(), made.client() as client:
        for name in ("limited", "healthy"):
            client.create_collection(name, made.model, wait_s=60)
        limit_writes(client, "limited", per_minute=600)
        slow = send_off(client, limited, "limited")
        eventually(lambda: client.jobs.get(slow).report().stored >= 512, 60)
        fast = settled(client, [send_off(client, healthy, "healthy")], deadline_s=10)
        assert client.jobs.get(slow).report().pending, "it was limited all the time"
        verdict = add_up(judge(client, "healthy", healthy), fast, made.done, started)
        limit_writes(client, "limited", per_minute=None)
        lifted = time.monotonic()
        reports = settled(client, [slow], deadline_s=60)
        verdict.add(add_up(judge(client, "limited", limited), reports, Counter(), lifted))
        for name in ("limited", "healthy"):
            client.collections.delete(name)
    conclude(verdict)


@pytest.mark.soak
def test_a_limit_below_the_size_of_a_request_slows_down_and_buries_nobody(mill: MakeMill, conclude: Conclude) -> None:
    """Qdrant refuses a request of more points than it allows in a minute, for ever: it has to be made smaller."""
    made, started = mill(workers=1), time.monotonic()
    texts = texts_of(60)
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, wait_s=60)
        limit_writes(client, "c", per_minute=50)
        reports = settled(client, [send_off(client, texts)], deadline_s=150)
        conclude(add_up(judge(client, "c", texts), reports, made.done, started))
        client.collections.delete("c")


def limit_writes(client: Client, collection: str, per_minute: int | None) -> None:
    """So many points a minute; None lifts the limit."""
    strict = models.StrictModeConfig(enabled=per_minute is not None, write_rate_limit=per_minute)
    client._parts.store.update_collection(collection, strict_mode_config=strict)


# a read-only Redis, a full Redis

MOODS = ["NOREPLICAS", "READONLY", "OOM"]


@pytest.mark.parametrize(
    "moods",
    [pytest.param(MOODS, id="short")]
    + [pytest.param([mood] * 10, id=f"long-{mood}", marks=pytest.mark.soak) for mood in MOODS],
)
def test_a_redis_that_takes_no_writes_for_a_while_costs_nothing(
    moods: list[str], mill: MakeMill, conclude: Conclude
) -> None:
    """It lacks its replicas, or was made a replica of a server that is away, or is full; and recovers."""
    jobs: list[str] = []
    count = (step := 1_000) * len(moods)
    made, started = mill(workers=2), time.monotonic()
    with made.running(), made.client(queue_max_documents=500) as client, closing(made.redis.client()) as redis:
        client.create_collection("c", made.model, wait_s=60)
        with Meanwhile(lambda stop: ingest(client, count, jobs, made.sizes(), stop)) as producer:
            for turn, mood in enumerate(moods):
                producer.until(lambda turn=turn: client.collections.count("c") > step * turn, 60)  # type: ignore[misc]  # default
                MAKE[mood](redis)
                producer.until(noticed(redis, mood, client), 60)
                recover(redis)
            producer.join(300)
        reports = settled(client, jobs, deadline_s=60)
        verdict = judge(client, "c", {str(n): f"text of document {n}" for n in range(count)})
        conclude(add_up(verdict, reports, made.done, started))
        client.collections.delete("c")


def leave_room(redis: Redis, size: int = 16_384) -> None:
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] + size)


MAKE: dict[str, Callable[[Redis], object]] = {
    "NOREPLICAS": lambda redis: redis.config_set("min-replicas-to-write", 1),
    "READONLY": lambda redis: redis.replicaof("127.0.0.1", "1"),
    "OOM": leave_room,
}


def recover(redis: Redis) -> None:
    redis.replicaof("NO", "ONE")
    for setting in ("min-replicas-to-write", "maxmemory"):
        redis.config_set(setting, 0)


def noticed(redis: Redis, mood: str, client: Client) -> Callable[[], bool]:
    """Whether writes have been refused since, or nothing is stored any more since nobody tries."""
    before, still = refusals(redis, mood), Still(lambda: client.collections.count("c"))
    return lambda: refusals(redis, mood) >= before + 20 or still()


def refusals(redis: Redis, kind: str) -> int:
    """How many commands were refused with this error since the server started."""
    counted: dict[str, Any] = redis.info("errorstats").get(f"errorstat_{kind}", {})
    return int(counted.get("count", 0))


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
def test_a_full_redis_drains_though_it_gets_no_more_room(scale: int, mill: MakeMill, conclude: Conclude) -> None:
    """More than it can hold is enqueued, one document at a time, before a worker takes anything away."""
    made, started = mill(workers=2), time.monotonic()
    jobs: list[str] = []
    texts = {str(n): made.random.randbytes(20_000).hex() for n in range(200 * scale)}
    with made.running(), made.client() as client, closing(made.redis.client()) as redis:
        client.create_collection("c", made.model, wait_s=60)
        settled(client, [send_off(client, {"0": texts["0"]})], deadline_s=30)
        made.signal_all(SIGSTOP)
        leave_room(redis, 3 * 1024 * 1024)
        with Meanwhile(lambda stop: one_by_one(client, texts, jobs, stop)) as producer:
            producer.until(Still(lambda: len(jobs)), 60)
            assert producer.is_alive(), "it never was full"
            made.signal_all(SIGCONT)
            producer.join(120.0 * scale)
            assert not producer.is_alive(), f"stuck at {len(jobs)} of {len(texts)}; workers: {workers(client)}"
        reports = settled(client, jobs, deadline_s=60)
        conclude(add_up(judge(client, "c", texts), reports, made.done, started))
        client.collections.delete("c")


def one_by_one(client: Client, texts: dict[str, str], jobs: list[str], stop: Stop) -> None:
    for key, text in texts.items():
        if stop.is_set():
            return
        jobs.append(send_off(client, {key: text}, stop=stop, timeout_s=1))


class Still:
    """Whether a number has not changed for a second."""

    def __init__(self, look: Callable[[], int]) -> None:
        self._look = look
        self._seen, self._since = -1, 0.0

    def __call__(self) -> bool:
        if (now := self._look()) != self._seen:
            self._seen, self._since = now, time.monotonic()
        return time.monotonic() - self._since > 1.0
