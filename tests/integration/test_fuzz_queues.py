"""Whatever is put into the task queue or the query list: no process ends, nothing of others is touched, work goes on.

A few hundred inputs in every run of the tests, 10,000 each in `make fuzz`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis

import fuzzing
from gristmill import Client, Document, GristmillError
from gristmill.settings import variable
from gristmill_schemas.query import unpack_answer
from services import QdrantServer, RedisServer
from waiting import eventually

#: Looks at the worker during a run.
LOOKS = 10
#: Growth of the worker's memory that is still flat: buffers and caches of the libraries.
FLAT_KIB = 48 * 1024
MODEL = "hash:16"


class Mill:
    """A supervised worker over real servers, an application, and the keys of others in the same Redis."""

    def __init__(
        self, redis_url: str, qdrant: QdrantServer, collection: str, log_path: Path, closing_: ExitStack
    ) -> None:
        self.prefix, self.collection, self.log_path = f"t-{uuid.uuid4().hex[:8]}", collection, log_path
        settings: dict[str, Any] = {
            "redis_url": redis_url,
            "key_prefix": self.prefix,
            "qdrant_url": qdrant.url,
            "qdrant_grpc_port": qdrant.grpc_port,
        }
        environment = {**os.environ, **{variable(name): str(value) for name, value in settings.items()}}
        command = [sys.executable, "-m", "gristmill", "worker", "--model", MODEL, "--threads", "4"]
        log = closing_.enter_context(log_path.open("ab"))
        self.worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        closing_.callback(self._stop)
        self.client = closing_.enter_context(Client(**settings))
        self.broker = closing_.enter_context(closing(redis.Redis.from_url(redis_url)))
        self.digest = self.client.create_collection(collection, MODEL, wait_s=60).space.model_digest
        self.stored = 0
        self._plant()

    def _stop(self) -> None:
        self.worker.terminate()
        self.worker.wait(timeout=60)

    @property
    def queue(self) -> str:
        return f"{self.prefix}:bulk.{self.digest[:16]}"

    @property
    def queries(self) -> str:
        return f"{self.prefix}:queries:{self.digest[:16]}"

    def _plant(self) -> None:
        """Another application's keys, under names that forged inputs have."""
        for name in (
            "orders",
            "celery",
            "_kombu.binding.celery",
            "{gristmill}",
            "x",
            "null",
            "-1",
            "other:reply:1",
        ):
            self.broker.rpush(name, "theirs")
            self.broker.expire(name, 3_000)
        self.broker.set("unacked", "theirs", ex=3_000)

    def theirs(self) -> dict[bytes, bytes | None]:
        keys: Any = self.broker.scan_iter(count=1000)
        ours = (f"{self.prefix}:".encode(), f"{{{self.prefix}}}:".encode())
        return {key: self.broker.dump(key) for key in keys if not key.startswith(ours)}

    def works(self) -> None:
        """Documents are stored and queries answered, whatever else is in the queues."""
        self.stored += 1
        name = f"document {self.stored}"
        assert self.client.enqueue(self.collection, [Document(id=name, text=name)]).wait(60).stored == 1
        assert self.client.search(self.collection, name, limit=1)[0].id == name

    def rss_kib(self) -> int:
        (worker,) = self.client._parts.ledger.workers()
        status = Path(f"/proc/{worker.split(':')[1]}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])

    def unharmed(self) -> str:
        """The worker's log, which tells of no process that ended and of nothing that nobody had thought of."""
        log = self.log_path.read_text(errors="replace")
        assert "ended with" not in log, "a worker process ended"
        assert "Traceback" not in log
        return log

    def survives(self, queue: str, inputs: Iterator[bytes], look: Callable[[], None]) -> None:
        """Puts the inputs into a queue, a part at a time, and looks after each part."""
        before, rss = self.theirs(), [self.rss_kib()]
        for _ in range(LOOKS):
            with self.broker.pipeline(transaction=False) as pipe:
                for _, raw in zip(range(fuzzing.COUNT // LOOKS), inputs, strict=False):
                    pipe.lpush(queue, raw)
                pipe.execute()
            self.works()
            eventually(lambda: not self.broker.llen(queue), 120)
            look()
            rss.append(self.rss_kib())
        log = self.unharmed()
        assert self.theirs() == before
        assert rss[-1] - rss[2] < FLAT_KIB, f"memory is not flat: {rss} KiB"
        assert len(log.splitlines()) < 100 + fuzzing.COUNT // 20, "a line per refusal"


@pytest.fixture
def mill(redis_url: str, qdrant_server: QdrantServer, collection_name: str, tmp_path: Path) -> Iterator[Mill]:
    with ExitStack() as closing_:
        yield Mill(redis_url, qdrant_server, collection_name, tmp_path / "worker.log", closing_)


def messages(mill: Mill, make_redis: Callable[..., RedisServer]) -> Callable[[], dict[str, Any]]:
    """Makes messages as our producer sends them: one of its own, taken from another Redis, with names that are new."""
    elsewhere = make_redis()
    with Client(redis_url=elsewhere.url, key_prefix=mill.prefix) as client, closing(elsewhere.client()) as broker:
        client._parts.dispatcher.publish(mill.digest, 1)
        sent = json.loads(broker.lindex(mill.queue, 0) or b"")

    def message() -> dict[str, Any]:
        properties = sent["properties"] | {"delivery_tag": str(uuid.uuid4())}
        body = json.loads(base64.b64decode(sent["body"]))
        return {**sent, "body": body, "properties": properties}

    return message


@pytest.mark.fuzz
@pytest.mark.timeout(1500)
def test_nothing_in_the_task_queue_ends_a_worker_or_holds_up_work(
    mill: Mill, make_redis: Callable[..., RedisServer]
) -> None:
    make = messages(mill, make_redis)

    def encoded(raw: bytes) -> bytes:
        """The body in base64 again, so that mutations reach into it."""
        try:
            message = json.loads(raw)
            message["body"] = base64.b64encode(json.dumps(message["body"]).encode()).decode()
        except (ValueError, TypeError, KeyError, RecursionError):
            return raw
        return json.dumps(message).encode()

    def look() -> None:
        reasons = [message.reason for message in eventually(lambda: mill.client.refused.list(1000))]
        assert [wrong for reason in reasons if (wrong := fuzzing.not_a_sentence(reason))] == []

    mill.survives(mill.queue, map(encoded, fuzzing.inputs(make)), look)


@pytest.mark.fuzz
@pytest.mark.timeout(1500)
def test_nothing_in_the_query_list_ends_a_worker_or_holds_up_a_query(mill: Mill) -> None:
    def request() -> dict[str, Any]:
        return {
            "format": 1,
            "token": uuid.uuid4().hex,
            "model_digest": mill.digest,
            "dimensions": 16,
            "normalize": True,
            "texts": ["one", "two"],
            "deadline_us": int((mill.client._parts.ledger.now() + 60) * 1e6),
        }

    answered = 0

    def look() -> None:
        nonlocal answered
        for key in list(mill.broker.scan_iter(f"{mill.prefix}:reply:*", count=1000)):
            assert re.fullmatch(rf"{mill.prefix}:reply:[0-9a-f]{{32}}", key.decode()), key
            answers: Any = mill.broker.lrange(key, 0, -1)
            for answer in answers:
                answered += 1
                assert _wrong(answer) is None, answer
            mill.broker.delete(key)

    mill.survives(mill.queries, fuzzing.inputs(request), look)
    assert answered > fuzzing.COUNT // 10


def _wrong(answer: bytes) -> str | None:
    try:
        unpack_answer(answer)
    except GristmillError as error:
        return fuzzing.not_a_sentence(str(error))
    return None


#: Equal to ours, or as good as nothing, for somebody who does not look closely. Handed to Celery, most of them end a worker.
LIKE_NOTHING: list[Any] = ["", [], {}, 1, "x"]
ALMOST_OURS: list[tuple[str, dict[str, Any]]] = [
    ("headers", {name: value})
    for name in ("eta", "expires", "stamped_headers", "timelimit", "stamps", "retries", "group", "shadow")
    for value in LIKE_NOTHING
    if (name, value) != ("stamps", {})
]
ALMOST_OURS += [("headers", {"id": "\ud800"}), ("headers", {"parent_id": [1]}), ("headers", {"callbacks": []})]
ALMOST_OURS += [("properties", {"delivery_tag": "\ud800"}), ("properties", {"delivery_tag": "x" * 100_000})]
ALMOST_OURS += [("properties", {"priority": float("inf")}), ("properties", {"correlation_id": {}})]
ALMOST_OURS += [("properties", {"delivery_info": {"exchange": "", "routing_key": "orders"}})]


def test_a_message_that_is_only_like_ours_is_parked_and_ends_no_worker(
    mill: Mill, make_redis: Callable[..., RedisServer]
) -> None:
    make = messages(mill, make_redis)
    before = mill.theirs()
    for part, change in ALMOST_OURS:
        message = make()
        body = base64.b64encode(json.dumps(message["body"]).encode()).decode()
        forged = message | {"body": body, part: message[part] | change}
        mill.broker.lpush(mill.queue, json.dumps(forged), json.dumps(forged))
    mill.works()
    eventually(lambda: len(mill.client.refused.list(1000)) == 2 * len(ALMOST_OURS))
    mill.unharmed()
    assert mill.theirs() == before
    mill.works()


def test_thousands_of_messages_that_mean_nothing_cost_a_few_lines_and_hold_up_no_work(mill: Mill) -> None:
    with mill.broker.pipeline(transaction=False) as pipe:
        for number in range(5_000):
            pipe.lpush(mill.queue, f"nothing {number}")
            pipe.lpush(mill.queries, f"nothing {number}")
        pipe.execute()
    mill.works()
    assert len(mill.unharmed().splitlines()) < 100
    assert len(eventually(lambda: mill.client.refused.list(2000))) <= 1000


def test_queues_under_whose_names_something_else_lies_end_no_worker(mill: Mill) -> None:
    for queue in (mill.queue, mill.queries):
        mill.broker.set(queue, "something else", ex=600)
    eventually(lambda: "expected a list that may be read" in mill.unharmed())
    eventually(lambda: "query lane: Redis" in mill.unharmed())
    mill.broker.delete(mill.queue, mill.queries)
    mill.works()
    mill.unharmed()
