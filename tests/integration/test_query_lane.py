"""The query lane's door: an answer goes where its token says and nowhere else, and whoever asks needs no good clock."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gristmill import Client, Document, EncodingFailed, GristmillError, NoWorker
from gristmill.search.query_channel import LaneChannel
from gristmill.settings import variable
from gristmill_schemas import EncoderInfo, Pooling, Templates
from gristmill_schemas.query import unpack_answer
from services import WorkerProcess
from waiting import eventually

#: What a healthy worker changes by itself.
PASSING = (b"worker", b"turn", b":lanes")
TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def worker(settings: dict[str, Any], tmp_path: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(tmp_path / "worker", {variable(name): str(value) for name, value in settings.items()}) as worker:
        yield worker


@pytest.fixture
def client(settings: dict[str, Any]) -> Iterator[Client]:
    with Client(**settings) as client:
        yield client


@pytest.fixture
def broker(settings: dict[str, Any]) -> Iterator[redis.Redis]:
    with contextlib.closing(redis.Redis.from_url(settings["redis_url"])) as broker:
        yield broker


def request(digest: str, **changes: Any) -> dict[str, Any]:
    """A request as it waits in the queue."""
    known = {"format": 1, "token": TOKEN, "model_digest": digest, "dimensions": 16, "normalize": True, "texts": ["t"]}
    return known | {"deadline_us": int((time.time() + 60) * 1e6), "deadline": time.time() + 60} | changes


def query_queue(prefix: str, digest: str) -> str:
    """Written out: whoever forges a request goes by what is in Redis, not by our code."""
    return f"{prefix}:queries:{digest[:16]}"


def answer_to(broker: redis.Redis, prefix: str, token: str, within_s: float = 60) -> bytes | None:
    popped: Any = broker.blpop([f"{prefix}:reply:{token}"], timeout=within_s)
    return None if popped is None else bytes(popped[1])


def contents(broker: redis.Redis) -> dict[bytes, bytes | None]:
    keys: Any = broker.scan_iter(count=1000)
    return {key: broker.dump(key) for key in keys if not any(word in key for word in PASSING)}


@pytest.mark.usefixtures("worker")
def test_a_query_request_cannot_have_a_worker_write_anywhere_but_to_its_own_answer(
    client: Client, broker: redis.Redis, settings: dict[str, Any], collection_name: str
) -> None:
    digest = client.create_collection(collection_name, "hash:16", wait_s=60).space.model_digest
    prefix = settings["key_prefix"]
    assert client.enqueue(collection_name, [Document(id="1", text="one")]).wait(60).stored == 1
    broker.rpush("orders", "order 1")
    broker.rpush(f"{prefix}:reply:mine", "another program's")
    broker.set("sessions", "s", ex=300)
    broker.hset("customers:reply:1", "name", "n")
    for key in ("orders", f"{prefix}:reply:mine", "customers:reply:1"):
        broker.expire(key, 300)
    others = ["orders", "sessions", "customers:reply:1", f"{prefix}:reply:mine", "new:reply:key"]
    ours = [f"{{{prefix}}}:jobs", f"{{{prefix}}}:load", f"{prefix}:reply:{TOKEN}"]
    nearly = [f"../{TOKEN}", TOKEN.upper(), TOKEN + "\n", f" {TOKEN}", "", TOKEN[:31], TOKEN + "0", "\uff10" * 32]
    before = contents(broker)
    for aim in (*others, *ours, *nearly):
        for forged in (
            request(digest, token=aim, reply_to=aim),
            request(digest, token=aim, reply_to=aim, texts=[]),
            {"token": aim, "reply_to": aim},
        ):
            broker.lpush(query_queue(prefix, digest), json.dumps(forged))
    eventually(lambda: not broker.llen(query_queue(prefix, digest)))
    assert client.search(collection_name, "one")[0].id == "1"
    assert contents(broker) == before
    assert all(broker.ttl(key) > 200 for key in ("orders", "sessions", f"{prefix}:reply:mine", "customers:reply:1"))


@pytest.mark.usefixtures("worker")
def test_an_answer_never_joins_what_is_there_already(
    client: Client, broker: redis.Redis, settings: dict[str, Any], collection_name: str
) -> None:
    digest = client.create_collection(collection_name, "hash:16", wait_s=60).space.model_digest
    prefix = settings["key_prefix"]
    key, other, queue = f"{prefix}:reply:{TOKEN}", f"{prefix}:reply:{'f' * 32}", query_queue(prefix, digest)
    broker.set(key, "a string", ex=60)
    broker.lpush(queue, json.dumps(request(digest)))
    for _ in range(3):
        broker.lpush(queue, json.dumps(request(digest, token="f" * 32)))
    eventually(lambda: broker.exists(other))
    client.embed("behind all of them", collection=collection_name)
    assert broker.get(key) == b"a string"
    assert broker.llen(other) == 1
    assert 0 < broker.pttl(other) <= 60_000


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"texts": []}, "texts: .*at least 1"),
    ({"texts": ["\x00"]}, "NUL"),
    ({"texts": ["x"] * 257}, "256"),
    ({"texts": ["x" * 1_500_000] * 2}, "expected at most 2097152 bytes together, got 3000000"),
    ({"dimensions": 0}, "dimensions: .* got 0"),
    ({"dimensions": 2**40}, "dimensions: .* got 1099511627776"),
    ({"dimensions": 17}, "dimensions"),
    ({"deadline_us": 1e308}, "deadline_us"),
    ({"deadline_us": float("nan")}, "deadline_us"),
    ({"model_digest": "another"}, "model_digest: expected 'hash.*got 'another'"),
    ({"format": 7}, "format 7 is newer than 1"),
]


@pytest.mark.usefixtures("worker")
def test_a_request_that_cannot_be_served_is_answered_with_the_reason(
    client: Client, broker: redis.Redis, settings: dict[str, Any]
) -> None:
    digest = eventually(client.models.list, 60)[0].digest
    for number, (changes, reason) in enumerate(REFUSED):
        token = f"{number:032x}"
        broker.lpush(query_queue(settings["key_prefix"], digest), json.dumps(request(digest, token=token, **changes)))
        answer = answer_to(broker, settings["key_prefix"], token)
        assert answer is not None, reason
        with pytest.raises(GristmillError, match=reason):
            unpack_answer(answer)


@pytest.mark.usefixtures("worker")
def test_clients_whose_clocks_are_hours_off_get_their_answers(
    client: Client, settings: dict[str, Any], collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_collection(collection_name, "hash:16", wait_s=60)
    true_time = time.time

    def off_by(shift_s: float) -> Callable[[], float]:
        # Not for gRPC, whose own core would still have the true time.
        return lambda: true_time() + (0 if sys._getframe(1).f_globals["__name__"].startswith("grpc") else shift_s)

    for shift_s in (-86_400, -3_600, -11, 6, 3_600, 86_400):
        monkeypatch.setattr(time, "time", off_by(shift_s))
        with Client(**settings) as wrong:
            job = wrong.enqueue(collection_name, [Document(id="1", text=f"text {shift_s}")])
            report = job.wait(60)
            assert (report.stored, 0 <= report.seconds < 60) == (1, True)
            assert [hit.text for hit in wrong.search(collection_name, f"text {shift_s}")] == [f"text {shift_s}"]
            receipt = wrong.receipt(collection_name, "1")
        assert receipt.version is not None
        assert abs(receipt.version / 1e6 - true_time()) < 60, "a document that brings no version has the ledger's time"


#: Not for gRPC, whose own core would still have the true time.
TWO_HOURS_AHEAD = """
import sys, time
true_time = time.time
time.time = lambda: true_time() + (0 if sys._getframe(1).f_globals["__name__"].startswith("grpc") else 7200)
"""


def test_a_worker_whose_clock_is_wrong_answers_and_what_it_writes_down_is_by_the_ledgers_clock(
    client: Client, settings: dict[str, Any], collection_name: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(TWO_HOURS_AHEAD)
    environment = {variable(name): str(value) for name, value in settings.items()} | {
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    }
    with WorkerProcess(tmp_path / "worker", environment):
        client.create_collection(collection_name, "hash:16", wait_s=60)
        assert client.enqueue(collection_name, [Document(id="1", text="one")]).wait(60).stored == 1
        assert client.search(collection_name, "one")[0].id == "1"
        receipt = client.receipt(collection_name, "1")
        started: Any = [status["started_at"] for status in client._parts.ledger.workers().values()]
        assert receipt.stored_at is not None
        assert all(abs(told - time.time()) < 60 for told in (receipt.stored_at, *started))


def test_a_query_that_nobody_waits_for_any_more_is_dropped_and_that_is_said(
    client: Client, broker: redis.Redis, settings: dict[str, Any], worker: WorkerProcess
) -> None:
    digest = eventually(client.models.list, 60)[0].digest
    late = request(digest, deadline_us=int(time.time() * 1e6) - 5_000_000, deadline=time.time() - 5)
    broker.lpush(query_queue(settings["key_prefix"], digest), json.dumps(late))
    assert client.embed("behind it", model="hash:16").shape == (16,)
    assert answer_to(broker, settings["key_prefix"], TOKEN, 0.05) is None
    eventually(lambda: "taken only after whoever asked had given up" in worker.log_path.read_text())
    eventually(lambda: fates(client) == {"answered": 1, "expired": 1, "refused": 0, "given_back": 0})
    broker.lpush(query_queue(settings["key_prefix"], digest), json.dumps(request(digest, texts=[])))
    assert answer_to(broker, settings["key_prefix"], TOKEN) is not None
    eventually(lambda: fates(client)["refused"] == 1)


def fates(client: Client) -> dict[str, int]:
    """What became of the queries, as the one worker's heartbeat says."""
    ((status,), *_) = [[*each["engines"]] for each in client._parts.ledger.workers().values()]  # type: ignore[misc]
    return dict(status["queries"])


def test_the_oldest_requests_make_room_where_nobody_takes_any(
    client: Client, broker: redis.Redis, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gristmill.search.query_vectors._HEARD_S", 3600.0)
    info = EncoderInfo(
        model="m", digest="m", dimensions=8, max_tokens=64, pooling=Pooling.MEAN, normalize=True, templates=Templates()
    )
    client._parts.ledger.announce(info)
    LaneChannel(settings["key_prefix"], broker, "m").beat()  # and takes nothing
    queue = query_queue(settings["key_prefix"], "m")
    with broker.pipeline(transaction=False) as pipe:
        pipe.lpush(queue, *range(12_000))
        pipe.expire(queue, 600)
        pipe.execute()
    with Client(**settings, query_timeout_s=240) as patient, pytest.raises(NoWorker):
        patient.embed("t", model="m")
    assert broker.llen(queue) == 10_000
    assert 240 < broker.ttl(queue) <= 600, "whoever waits longer keeps it"
    newest: Any = broker.lindex(queue, 0)
    now, _ = broker.time()
    assert 120 < json.loads(newest)["deadline_us"] / 1e6 - now <= 240


def test_a_reranker_beside_the_model_is_asked_through_a_list_of_its_own(
    client: Client, broker: redis.Redis, settings: dict[str, Any], tmp_path: Path, collection_name: str
) -> None:
    prefix, digest = settings["key_prefix"], "overlap-1-64"
    environment = {variable(name): str(value) for name, value in settings.items()}
    with pytest.raises(NoWorker, match=r"nobody serves a reranker.*gristmill worker --reranker"):
        client.rerank("mill", ["a"])
    with WorkerProcess(tmp_path / "worker", environment | {variable("reranker"): "overlap:64"}):
        client.create_collection(collection_name, "hash:16", wait_s=60)
        documents = [Document(id="1", text="a ship"), Document(id="2", text="a mill by the river")]
        client.enqueue(collection_name, documents).wait(60).raise_for_failures()
        hits = client.search(collection_name, "mill river", rerank=True)
        assert [(hit.id, hit.score) for hit in hits] == [("2", 1.0), ("1", 0.0)]
        assert [each.index for each in client.rerank("mill", ["a", "mill"] * 300)][:2] == [1, 3]
        with pytest.raises(EncodingFailed, match="query: expected fewer than 64 tokens"):
            client.rerank("mill " * 70, ["a"])
        known = {"format": 1, "token": TOKEN, "model_digest": digest, "query": "q", "documents": ["d"]}
        for wrong, said in (
            ({"documents": []}, "documents"),
            ({"model_digest": "another"}, "another"),
            ({"query": ""}, "query"),
            ({"texts": ["t"], "documents": None}, "documents"),
        ):
            late = {"deadline_us": int((time.time() + 60) * 1e6)}
            broker.lpush(query_queue(prefix, digest), json.dumps(known | late | wrong))
            answer = answer_to(broker, prefix, TOKEN)
            assert answer is not None
            with pytest.raises(GristmillError, match=said):
                unpack_answer(answer)
