"""The metrics port of real workers over real servers: exact counts, and what an operator sees of planted troubles."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

import waiting
from alerts import firing
from chaos.device import Ward
from gristmill import Client, ClientSettings, Document, JobReport
from gristmill.ledger import RedisLedger
from gristmill.ledger.connection import connect
from gristmill.maintenance.troubles import Kind
from gristmill.search.query_channel import QueryChannel, new_token, query_queue
from gristmill.settings import load_settings, variable
from gristmill_schemas import QueryRequest
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.process.metrics.catalogue import METRICS
from gristmill_worker.process.metrics.ledger import LedgerFigures
from gristmill_worker.process.metrics.sheet import text_of
from gristmill_worker.server.live.watching import Watch
from scraping import Series, by_label, figures, scrape, total
from services import QdrantServer, RedisServer, WorkerProcess, free_port
from services.processes import children_of
from services.proxy import Proxy

pytestmark = pytest.mark.server
TESTS = Path(__file__).parents[1]
#: Servers and workers of a busy machine take their time.
eventually = partial(waiting.eventually, within_s=60)


class ScrapedWorker(WorkerProcess):
    """A worker with its metrics port open, ready when it says so there."""

    def __init__(self, data_dir: Path, settings: Mapping[str, Any], **options: Any) -> None:
        self.port = free_port(together=2)  # that of a second process is the next one
        chosen = {**settings, "metrics_port": self.port, "metrics_host": "127.0.0.1"}
        super().__init__(data_dir, {variable(name): str(value) for name, value in chosen.items()}, **options)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/readyz").is_success
        except httpx.HTTPError:
            return False

    def page(self) -> dict[Series, float]:
        return scrape(self.address)


class FrailWorker(ScrapedWorker):
    """One whose device and documents can fall ill: see `chaos.poison_worker`."""

    def command(self) -> list[str]:
        program = (
            "import os; from chaos.poison_worker import work; work('hash:16', os.environ.copy(), '.', 'server.log')"
        )
        return [sys.executable, "-c", program]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}


@pytest.fixture
def settings(redis_url: str, qdrant_server: QdrantServer) -> dict[str, Any]:
    return {"redis_url": redis_url, "qdrant_url": qdrant_server.url, "qdrant_grpc_port": qdrant_server.grpc_port}


@pytest.fixture
def workers(settings: dict[str, Any], tmp_path: Path) -> Iterator[list[ScrapedWorker]]:
    """Two of one model."""
    with ExitStack() as stack:
        both = [ScrapedWorker(tmp_path / name, settings) for name in ("first", "second")]
        for worker in both:
            worker.launch()
            stack.callback(worker.stop)
        for worker in both:
            worker.wait_ready()
        yield both


def ended(report: JobReport) -> dict[str, int]:
    """What became of a job's documents, by outcome."""
    names = ("stored", "skipped", "superseded", "deleted", "absent", "dead", "gone")
    return {name: count for name in names if (count := getattr(report, name))}


def test_what_two_workers_have_counted_is_what_the_jobs_report(
    workers: list[ScrapedWorker], settings: dict[str, Any], collection_name: str
) -> None:
    with Client(**settings) as client:
        client.create_collection(collection_name, "hash:16", chunking={"long_texts": "refuse"})
        texts = {f"d{n}": f"text {n}" for n in range(400)} | {f"long{n}": "word " * 9_000 for n in range(5)}
        first = client.enqueue(collection_name, [Document(id=key, text=text) for key, text in texts.items()]).wait(60)
        again = [Document(id=f"d{n}", text=f"text {n}" if n < 150 else f"new {n}") for n in range(300)]
        second = client.enqueue(collection_name, again).wait(60)
        third = client.delete(collection_name, [f"d{n}" for n in range(90)] + ["never"]).wait(60)
    reports = [first, second, third]
    assert (first.dead, second.skipped, third.deleted, third.absent) == (5, 150, 90, 1)
    expected: Counter[str] = Counter()
    for report in reports:
        expected.update(ended(report))

    def counted() -> Counter[str]:
        sums: Counter[str] = Counter()
        for worker in workers:
            sums.update(by_label(worker.page(), "gristmill_documents_total", "outcome"))
        return sums

    # A job is done a moment before its worker has counted the last of it.
    eventually(lambda: counted() == expected)
    pages = [worker.page() for worker in workers]
    tokens = sum(total(page, "gristmill_document_tokens_total", outcome="stored") for page in pages)
    assert tokens == sum(report.tokens for report in reports)
    assert sum(total(page, "gristmill_dead_letters_total", reason="TextTooLong") for page in pages) == 5
    assert sum(total(page, "gristmill_chunks_total") for page in pages) == sum(report.chunks for report in reports)
    assert {_family(name) for page in pages for name, _ in page} <= set(METRICS)


def _family(series: str) -> str:
    return next((series.removesuffix(end) for end in ("_bucket", "_count", "_sum") if series.endswith(end)), series)


#: What docs/runbook.md tells to look for: a trouble, and how a page shows it.
SIGNS: dict[str, Callable[[Mapping[Series, float]], bool]] = {
    "Qdrant is away": lambda page: total(page, "gristmill_waiting", cause="store") > 0,
    "a slow store": lambda page: _mean(page, "gristmill_store_seconds") > 0.1,
    "a hung device": lambda page: total(page, "gristmill_batch_running_seconds") > 0.3,
    "poison documents": lambda page: total(page, "gristmill_dead_letters_total", reason="EncodingFailed") > 0,
    "no worker for a model": lambda page: bool(_unserved(page)),
}


def _mean(page: Mapping[Series, float], name: str) -> float:
    return total(page, f"{name}_sum") / max(1.0, total(page, f"{name}_count"))


def _unserved(page: Mapping[Series, float]) -> set[str]:
    serving = by_label(page, "gristmill_queue_workers", "model")
    return by_label(page, "gristmill_queue_depth", "model").keys() - serving.keys()


def since(before: Mapping[Series, float], page: Mapping[Series, float]) -> dict[Series, float]:
    """What was counted between two pages, as `rate` sees it."""
    return {series: value - before.get(series, 0) for series, value in page.items()}


def seen(page: Mapping[Series, float]) -> set[str]:
    """The troubles that somebody names who sees nothing but a page."""
    return {trouble for trouble, sign in SIGNS.items() if sign(page)}


class Onlookers:
    """Who sees only the page of alerts, and who sees only the live page."""

    def __init__(self, worker: ScrapedWorker, watch: Watch, scratch: Path) -> None:
        self._worker, self._watch, self._scratch = worker, watch, scratch
        self._looked: list[tuple[float, dict[Series, float]]] = []

    def alerts(self) -> set[str]:
        """What would fire, if what has happened since they were asked last goes on."""
        self._looked = [*self._looked[-1:], (time.monotonic(), self._worker.page())]
        (then, before), (now, page) = self._looked[0], self._looked[-1]
        return firing(before, page, seconds=max(now - then, 0.1), scratch=self._scratch)

    def found(self) -> set[Kind]:
        """What the live page finds, by what it has seen last."""
        return {each.kind for each in self._watch.troubles()}


@pytest.mark.release  # for a minute and a half a machine that is slow by itself looks ill
def test_whoever_sees_only_the_metrics_or_only_the_page_names_each_trouble(
    make_redis: Callable[..., RedisServer],
    make_qdrant: Callable[..., QdrantServer],
    collection_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gristmill.maintenance.troubles.judging.HUNG_S", 0.3)
    slow, redis = threading.Event(), make_redis()
    ward = Ward(tmp_path / "ward")

    def delay(method: str, path: str) -> None:
        if slow.is_set() and path.startswith("/collections/"):
            threading.Event().wait(0.3)  # what a slow disk does

    qdrant = make_qdrant()
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(qdrant.url, fault=delay))
        chosen: dict[str, Any] = {"redis_url": redis.url, "qdrant_url": proxy.url, "qdrant_prefer_grpc": False}
        worker = FrailWorker(tmp_path / "worker", {**chosen, "server_wait_s": 1})
        worker._settings |= ward.environment
        stack.enter_context(worker)
        client = stack.enter_context(Client(**chosen))
        client.create_collection(collection_name, "hash:16")
        watch = stack.enter_context(closing(Watch(client)))
        watch.start()
        look = Onlookers(worker, watch, tmp_path)

        def enqueue(text: str, number: int = 8) -> Any:
            return client.enqueue(
                collection_name, [Document(id=f"{text} {n}", text=f"{text} {n}") for n in range(number)]
            )

        assert enqueue("well").wait(60).stored == 8
        assert seen(worker.page()) == set()
        assert (look.alerts(), look.found()) == (set(), set())

        ward.hold()
        job = enqueue("held")
        eventually(lambda: seen(worker.page()) == {"a hung device"})
        eventually(lambda: "GristmillDeviceHangs" in look.alerts())
        eventually(lambda: Kind.HUNG in look.found())
        qdrant.kill()  # whoever looks every few seconds would keep it from ending by itself
        ward.release()
        assert eventually(lambda: seen(worker.page())) == {"Qdrant is away"}
        eventually(lambda: "GristmillQdrantAway" in look.alerts())
        eventually(lambda: Kind.QDRANT_AWAY in look.found())
        eventually(lambda: httpx.get(f"{worker.address}/readyz", timeout=60).status_code == 503)
        assert "Qdrant" in httpx.get(f"{worker.address}/readyz", timeout=60).text
        assert httpx.get(f"{worker.address}/healthz", timeout=60).is_success
        qdrant.start()
        assert job.wait(60).stored == 8
        eventually(lambda: not total(worker.page(), "gristmill_waiting"))
        eventually(lambda: not look.found() - {Kind.WAITING})

        enqueue("well again").wait(60)
        poisoned = client.enqueue(
            collection_name, [Document(id="p", text="POISON-RAISE"), Document(id="q", text="fine")]
        )
        assert (poisoned.wait(60).dead, poisoned.report().stored) == (1, 1)
        assert "poison documents" in seen(worker.page())
        assert "GristmillDocumentsDie" in look.alerts()
        eventually(lambda: {Kind.POISON, Kind.DEAD_RISING} <= look.found())

        slow.set()
        before = worker.page()
        many = enqueue("slow", 64 * 64)
        eventually(lambda: "a slow store" in seen(since(before, worker.page())))
        eventually(lambda: "GristmillSlowStore" in look.alerts())
        eventually(lambda: Kind.SLOW_STORE in look.found())
        many.cancel()
        slow.clear()

        client._parts.ledger.announce(HashEncoder(32).info)
        client.create_collection(f"{collection_name}-2", "hash:32")
        client.enqueue(f"{collection_name}-2", [Document(id="1", text="nobody comes")])
        assert eventually(lambda: _unserved(worker.page())) == {"hash:32"}
        assert "GristmillNoWorker" in look.alerts()
        eventually(lambda: Kind.NO_WORKER in look.found())

        with closing(redis.client()) as admin:
            admin.config_set("maxmemory", int(admin.info("memory")["used_memory"] * 1.05))
        eventually(lambda: "GristmillRedisFull" in look.alerts())
        eventually(lambda: Kind.REDIS_FULL in look.found())


def test_what_a_user_may_not_ask_is_left_out_and_the_rest_is_shown(make_redis: Callable[..., RedisServer]) -> None:
    redis = make_redis()
    with closing(redis.client()) as admin:
        admin.acl_setuser("barley", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    shown = {}
    for user in ("barley:x@", ""):
        settings = load_settings(ClientSettings, redis_url=redis.url.replace("://", f"://{user}"))
        with closing(connect(settings)) as client:
            looked = LedgerFigures(settings, RedisLedger(settings, client), client)
            looked.read()
            shown[user] = text_of([looked]).decode()
    assert "gristmill_broker_memory_bytes" in shown[""]
    assert "gristmill_broker_memory_bytes" not in shown["barley:x@"]
    assert "gristmill_ledger_parcels 0.0" in shown["barley:x@"]


def test_a_redis_that_is_full_is_waited_for(make_redis: Callable[..., RedisServer]) -> None:
    redis = make_redis()
    settings = load_settings(ClientSettings, redis_url=redis.url)
    with closing(connect(settings)) as client:
        looked = LedgerFigures(settings, RedisLedger(settings, client), client)
        full = {}
        for share in (0.5, 1.0):
            client.config_set("maxmemory", int(client.info("memory")["used_memory"] / share))
            looked.read()
            full[share] = total(figures(text_of([looked]).decode()), "gristmill_waiting", cause="broker_full")
    assert full == {0.5: 0, 1.0: 1}


def test_the_age_of_what_waits_is_told_of_each_lane(redis_url: str) -> None:
    settings = load_settings(ClientSettings, redis_url=redis_url)
    info = HashEncoder(32).info
    with closing(connect(settings)) as client:
        ledger = RedisLedger(settings, client)
        ledger.announce(info)
        ledger.heartbeat("w", {"engines": [{"model": info.model, "model_digest": info.digest}]}, ttl_s=60)
        looked = LedgerFigures(settings, ledger, client)

        def page() -> Mapping[Series, float]:
            looked.read()
            return figures(text_of([looked]).decode())

        assert total(page(), "gristmill_queue_oldest_seconds") == total(page(), "gristmill_queue_depth") == 0
        channel = QueryChannel(settings.key_prefix, client)
        request = QueryRequest(token=new_token(), model_digest=info.digest, dimensions=32, texts=("a question",))
        assert channel.ask(request, wait_s=600)
        queue = query_queue(settings.key_prefix, info.digest)
        (body,) = cast("list[bytes]", client.lrange(queue, 0, -1))
        earlier = re.sub(r'(?<="asked_us":)\d+', str(int((ledger.now() - 90) * 1e6)), body.decode())
        client.lset(queue, 0, earlier)
        assert channel.ask(request, wait_s=600)
        assert 90 <= total(page(), "gristmill_queue_oldest_seconds", lane="interactive") < 400
        assert by_label(page(), "gristmill_queue_depth", "lane") == {"interactive": 2}


class TwoProcesses(ScrapedWorker):
    """A supervisor with two worker processes, ready when both are."""

    def command(self) -> list[str]:
        return [*(each for each in super().command() if each != "--no-supervise"), "--processes", "2"]

    @property
    def addresses(self) -> list[str]:
        return [f"http://127.0.0.1:{self.port + number}" for number in range(2)]

    def is_ready(self) -> bool:
        return super().is_ready() and total(scrape(self.addresses[1]), "gristmill_ready") == 1

    def restarts(self) -> dict[str, float]:
        """Of the first process; empty while it is not there."""
        try:
            return by_label(scrape(self.address), "gristmill_restarts_total", "cause")
        except httpx.HTTPError:
            return {}


@pytest.mark.slow
def test_each_process_has_its_port_whatever_becomes_of_redis_or_of_the_process(
    make_redis: Callable[..., RedisServer], qdrant_server: QdrantServer, tmp_path: Path
) -> None:
    redis = make_redis()
    settings = {"redis_url": redis.url, "qdrant_url": qdrant_server.url, "qdrant_grpc_port": qdrant_server.grpc_port}
    with TwoProcesses(tmp_path / "worker", {**settings, "redis_timeout_s": 1}) as worker:
        redis.pause()  # its connections stay open, and nothing answers
        eventually(lambda: all(_waits_for_the_broker(address) for address in worker.addresses))
        assert all(httpx.get(f"{address}/healthz", timeout=60).is_success for address in worker.addresses)
        # Readiness is judged by a pulse, which is a little later than what waits.
        eventually(lambda: {httpx.get(f"{each}/readyz", timeout=60).status_code for each in worker.addresses} == {503})
        redis.resume()
        eventually(lambda: httpx.get(f"{worker.address}/readyz", timeout=60).is_success)
        first = next(pid for pid in children_of(worker.pid) if _listens(pid, worker.port))
        os.kill(first, signal.SIGKILL)
        eventually(lambda: worker.restarts() == {"killed": 1})
        assert by_label(scrape(worker.addresses[1]), "gristmill_restarts_total", "cause") == {}


def _waits_for_the_broker(address: str) -> bool:
    return total(figures(httpx.get(f"{address}/metrics", timeout=60).text), "gristmill_waiting", cause="broker") == 1


def _listens(pid: int, port: int) -> bool:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return f"GRISTMILL_METRICS_PORT={port}".encode() in variables
