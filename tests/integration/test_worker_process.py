"""A real worker process over real servers: forged messages, back-pressure, and Redis over TLS."""

import base64
import contextlib
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gristmill import Client, ClientSettings, Document, QueueFull
from gristmill.ingest.broker import WORK_TASK, create_celery, queue_name
from gristmill.ledger import HighWater
from gristmill.settings import variable
from gristmill_schemas import EncoderInfo, Parcel
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.hash_encoder import HashEncoder
from services import ModelServer, RedisServer, WorkerProcess
from waiting import eventually

StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def client(settings: dict[str, Any]) -> Iterator[Client]:
    with Client(**settings) as client:
        yield client


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    with contextlib.ExitStack() as closing:

        def start(settings: dict[str, Any]) -> WorkerProcess:
            environment = {variable(name): str(value) for name, value in settings.items()}
            return closing.enter_context(WorkerProcess(tmp_path / "worker", environment))

        yield start


def test_a_worker_says_what_it_is_at_from_before_its_model_is_loaded(
    settings: dict[str, Any], client: Client, tmp_path: Path
) -> None:
    """It waits for its model server as for a large model, and is to be seen meanwhile."""
    truth = HashEncoder(16)
    environment = {variable(name): str(value) for name, value in settings.items()}
    with ModelServer(lambda texts: truth.encode(truth.tokenize(texts))) as server:
        server.leave()
        worker = WorkerProcess(tmp_path / "worker", environment, model=server.url)
        worker.launch()
        try:
            (status,) = eventually(lambda: list(client._parts.ledger.workers().values()), 60)
            assert (status["state"], status["engines"]) == ("loading", [])
            assert status["loading"] == [{"model": server.url, "model_digest": None}]
            assert client.queue().models == ()
            server.come_back()
            eventually(
                lambda: [(it.workers, it.loading, it.tokens_per_s) for it in client.queue().models] == [(1, 0, None)]
            )
            workers = client._parts.ledger.workers
            eventually(lambda: [(it["state"], it["loading"]) for it in workers().values()] == [("ready", [])])
        finally:
            worker.stop()


def documents(count: int) -> list[Document]:
    return [Document(id=f"d{n}", text=f"text number {n}") for n in range(count)]


class Evil:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def forged(trap: Path) -> list[bytes]:
    """Raw messages, each of which must be refused."""
    envelope = {
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": WORK_TASK, "id": "x"},
        "properties": {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "r"}},
    }
    bomb = base64.b64encode(pickle.dumps(Evil(trap))).decode()
    messages: list[Any] = [
        None,
        [],
        7,
        {},
        {"properties": {}},
        envelope | {"body": bomb, "content-type": "application/x-python-serialize"},
        envelope | {"body": "[[], {}, {}]", "headers": {"task": "os.system", "id": "x"}},
        envelope | {"body": "[[1, 2, 3], {}, {}]"},
        envelope | {"body": '[["x"], {"more": 1}, {}]'},
        envelope | {"body": "{"},
        envelope | {"body": None},
        envelope | {"body": '[["x"], {}, {}]', "properties": {"delivery_tag": "t"}},
    ]
    raw = [b"\xff\xfe garbage", b"not json", b"", b"[" * 100_000, b"9" * 10_000, b'{"a": "\\ud800"}', b"NaN"]
    raw.append(json.dumps({"__type__": "decimal", "__value__": "no number"}).encode())
    return raw + [json.dumps(message).encode() for message in messages]


def send_by_celery(settings: dict[str, Any], queue: str, trap: Path) -> int:
    """A pickle and a foreign task from Celery itself; returns how many."""
    app = create_celery(ClientSettings(**settings))
    app.send_task(WORK_TASK, args=(Evil(trap),), queue=queue, serializer="pickle")
    app.send_task("somebody.elses", queue=queue)
    app.close()
    return 2


def test_forged_messages_are_parked_and_the_worker_goes_on(
    client: Client, settings: dict[str, Any], start_worker: StartWorker, collection_name: str, tmp_path: Path
) -> None:
    worker = start_worker(settings)
    client.create_collection(collection_name, "hash:16")
    queue = queue_name(client.models.list()[0].digest)
    trap = tmp_path / "trap"
    messages = forged(trap)
    with contextlib.closing(redis.Redis.from_url(settings["redis_url"])) as broker:
        for number, raw in enumerate(messages):
            broker.lpush(f"{settings['key_prefix']}:{queue}", raw)
            if number == len(messages) // 2:
                assert client.enqueue(collection_name, documents(10)).wait(60).stored == 10
    count = len(messages) + send_by_celery(settings, queue, trap)
    # Behind all of them: once these are stored, every forged one has been looked at.
    assert client.enqueue(collection_name, documents(20)).wait(60).stored == 10
    eventually(lambda: len(client.refused.list(1000)) >= count)
    refused = client.refused.list(1000)
    assert len(refused) == count
    assert all(item.reason and queue in item.queue and item.refused_at > 0 for item in refused)
    assert any("application/x-python-serialize" in item.reason for item in refused)
    assert any("somebody.elses" in item.reason for item in refused)
    assert not trap.exists(), "nothing was unpickled"
    assert worker.running
    assert "Traceback" not in worker.log_path.read_text()
    assert client.refused.drop() == count
    assert client.refused.list() == []


def test_a_parcel_whose_bytes_were_overwritten_is_parked_and_the_worker_goes_on(
    client: Client, settings: dict[str, Any], start_worker: StartWorker, collection_name: str
) -> None:
    worker = start_worker(settings)
    spec = client.create_collection(collection_name, "hash:16")
    ledger, dispatcher = client._parts.ledger, client._parts.dispatcher
    ticket = ledger.open_job(collection_name)
    parcel = Parcel(
        id=f"{ticket.job_id}.0",
        job_id=ticket.job_id,
        collection=collection_name,
        model_digest=spec.space.model_digest,
        documents=(Document(id="a", text="t"),),
        version=ticket.version,
        enqueued_at=ticket.opened_at,
    )
    ledger.accept(parcel, 0, HighWater(10, 10_000))
    with contextlib.closing(redis.Redis.from_url(settings["redis_url"])) as broker:
        broker.hset(f"{{{settings['key_prefix']}}}:parcel:{parcel.id}", "body", pickle.dumps("no parcel"))
    dispatcher.publish(parcel.model_digest)
    assert client.enqueue(collection_name, documents(10)).wait(60).stored == 10
    eventually(lambda: client.refused.unreadable() == [parcel.id])
    assert worker.running


def test_a_full_queue_says_so_waits_and_goes_on_when_a_worker_comes(
    settings: dict[str, Any], start_worker: StartWorker, collection_name: str
) -> None:
    with Client(**settings, queue_max_documents=128) as client:
        client.create_collection(collection_name, space=stand_in().space())
        with pytest.raises(QueueFull, match="holds 128 documents") as full:
            client.enqueue(collection_name, documents(300), block=False)
        for way_out in ("add workers", "wait", "GRISTMILL_QUEUE_MAX_DOCUMENTS", "GRISTMILL_QUEUE_MAX_BYTES"):
            assert way_out in str(full.value)
        with pytest.raises(QueueFull):
            client.enqueue(collection_name, documents(300), timeout_s=0.3)
        seen, waiting = [], threading.Event()

        def progress(accepted: int) -> None:
            seen.append(accepted)
            assert client._parts.ledger.load().documents <= 128
            waiting.set()

        failed: list[BaseException] = []
        producer = threading.Thread(target=lambda: enqueue(client, collection_name, progress, failed))
        producer.start()
        assert waiting.wait(60), "a producer that waits says so"
        assert seen[0] == 0
        start_worker(settings)
        producer.join(60)
        assert not failed
        assert seen[-1] == 1000
        assert seen == sorted(seen)
        for report in client.jobs.list():
            client.jobs.get(report.job_id).wait(60)
        assert client.collections.count(collection_name) == 1000


def enqueue(client: Client, name: str, progress: Callable[[int], None], failed: list[BaseException]) -> None:
    try:
        client.enqueue(name, documents(1000), progress=progress)
    except BaseException as error:
        failed.append(error)


def test_redis_over_tls_with_a_password_serves_worker_and_client(
    make_redis: Callable[..., RedisServer], settings: dict[str, Any], start_worker: StartWorker, collection_name: str
) -> None:
    server = make_redis(tls=True, password="miller")
    settings |= {"redis_url": server.url}
    start_worker(settings)
    with Client(**settings) as client:
        client.create_collection(collection_name, "hash:16")
        assert client.enqueue(collection_name, documents(10)).wait(60).stored == 10


def stand_in() -> EncoderInfo:
    """What the worker of these tests will announce."""
    return open_encoder("hash:16", device="cpu").info
