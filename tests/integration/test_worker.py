"""Real worker processes on real servers: they share, drain, wait, recover, and start again when they die."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from gristmill import Client, ClientSettings, Document, Job
from gristmill.ingest.broker import PARCELS_PER_MESSAGE
from gristmill.settings import load_settings, variable
from gristmill_schemas import PointSystem
from gristmill_schemas.limits import FIRST_PARCEL_DOCUMENTS
from gristmill_schemas.validation import SYSTEM_KEY
from services import QdrantServer, RedisServer, free_port
from services.guardian import guarded
from services.processes import children_of, lives
from waiting import eventually

pytestmark = pytest.mark.server
MODEL = "hash:16"
Servers = tuple[RedisServer, QdrantServer]


class Site:
    """Two servers, an application, and as many workers as a test starts."""

    def __init__(
        self, redis: RedisServer, qdrant: QdrantServer, folder: Path, closing: ExitStack, **settings: object
    ) -> None:
        self.redis, self.qdrant = redis, qdrant
        self.settings: dict[str, Any] = {
            "redis_url": redis.url,
            "qdrant_url": qdrant.url,
            "qdrant_grpc_port": qdrant.grpc_port,
            "model": MODEL,
            **settings,
        }
        if qdrant.api_key:
            self.settings["qdrant_api_key"] = qdrant.api_key
        self._log = closing.enter_context((folder / "workers.log").open("ab"))
        self._closing = closing
        self.client = closing.enter_context(Client(load_settings(ClientSettings, **self.settings)))
        self.jobs: list[Job] = []

    def start(self, *options: str, **settings: object) -> subprocess.Popen[bytes]:
        """`gristmill worker`, killed at the end of the test if it still runs."""
        chosen = {"reconcile_every_s": 0.5, **self.settings, **settings}
        environment = {**os.environ, **{variable(name): str(value) for name, value in chosen.items()}}
        command = [sys.executable, "-m", "gristmill", "worker", *options]
        process = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log)
        self._closing.enter_context(guarded(process.pid))
        self._closing.callback(_end, process)
        return process

    def alone(self, **settings: object) -> subprocess.Popen[bytes]:
        """One worker process without a supervisor."""
        return self.start("--no-supervise", **settings)

    def create(self) -> None:
        self.client.create_collection("c", wait_s=60)

    def enqueue(self, count: int, text: str = "text") -> Job:
        job = self.client.enqueue("c", [{"id": str(n), "text": f"{text} {n}"} for n in range(count)])
        self.jobs.append(job)
        return job

    def workers(self) -> list[dict[str, Any]]:
        return list(self.client._parts.ledger.workers().values())

    def waits_for(self, words: str) -> bool:
        return any(words in notice for status in self.workers() for notice in status["notices"])

    def attempts(self) -> set[int]:
        points, _ = self.client._parts.store.scroll("c", limit=100_000, with_payload=[SYSTEM_KEY])
        return {PointSystem.model_validate((point.payload or {})[SYSTEM_KEY]).attempts for point in points}


def texts_of(status: dict[str, Any]) -> int:
    """Texts that a worker has encoded, by its heartbeat."""
    return sum(engine["texts"] for engine in status["engines"])


def _end(process: subprocess.Popen[bytes]) -> None:
    """However the test went. A supervisor that is killed leaves orphans, which notice and drain by themselves."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@pytest.fixture
def open_site(
    make_redis: Callable[..., RedisServer], make_qdrant: Callable[..., QdrantServer], tmp_path: Path
) -> Iterator[Callable[..., Site]]:
    with ExitStack() as closing:

        def make(redis: dict[str, object] | None = None, **qdrant: object) -> Site:
            return Site(make_redis(**redis or {}), make_qdrant(**qdrant), tmp_path, closing)

        yield make


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    return open_site()


#: A stream that goes on when all that it has filled before is stored, and hangs before the last of it is told of.
SLOW_STREAM = """
import threading

from gristmill import Client
from gristmill.ingest import announcing
from integration.test_worker import one_by_one

announcing.QUIET_S = 3600


def stream(client):
    yield from one_by_one(client, {parcels}, within_s=600)
    threading.Event().wait()


with Client() as client:
    client.enqueue("c", stream(client))
"""
PARCELS = PARCELS_PER_MESSAGE + 2
FULL = FIRST_PARCEL_DOCUMENTS


def stored(client: Client) -> int:
    return sum(each.stored for each in client.jobs.list())


def one_by_one(client: Client, parcels: int, within_s: float = 60) -> Iterator[Document]:
    """Documents for so many parcels, and one more: a parcel is handed over when the next one begins."""
    for number in range(parcels * FULL + 1):
        eventually(functools.partial(reached, client, (number - 1) // FULL * FULL), within_s)
        yield Document(id=str(number), text=f"text {number}" * 128)  # so large that no parcel holds more than `FULL`


def reached(client: Client, count: int) -> bool:
    return count <= 0 or stored(client) >= count


def test_a_slow_stream_is_stored_as_it_comes(site: Site) -> None:
    """By workers that are faster than it, without any help of a reconciler."""
    site.alone(reconcile_every_s=3600)
    site.create()
    job = site.client.enqueue("c", one_by_one(site.client, PARCELS))
    assert job.wait(60).stored == PARCELS * FULL + 1


def test_what_a_slow_stream_has_accepted_is_stored_though_it_is_killed_before_it_tells_of_it(site: Site) -> None:
    site.alone()
    site.create()
    environment = {
        **os.environ,
        **{variable(name): str(value) for name, value in site.settings.items()},
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with subprocess.Popen([sys.executable, "-c", SLOW_STREAM.format(parcels=PARCELS)], env=environment) as producer:
        try:
            # The last of these has no message of its own.
            eventually(lambda: sum(each.accepted for each in site.client.jobs.list()) == PARCELS * FULL, 60)
        finally:
            producer.kill()
    eventually(lambda: stored(site.client) == PARCELS * FULL, 60)


def test_sigterm_drains_and_another_worker_goes_on(site: Site) -> None:
    first = site.alone()
    site.create()
    job = site.enqueue(6_000)
    eventually(lambda: job.report().finished > 0, 60)
    first.terminate()
    assert first.wait(timeout=60) == 0
    ledger, digest = site.client._parts.ledger, site.client.collections.get("c").space.model_digest
    assert ledger.backlog(digest) == ledger.load().parcels, "nothing is left behind in its hands"
    site.alone()
    report = job.wait(60)
    assert (report.stored, report.pending) == (6_000, 0)
    assert site.attempts() == {1}, "draining costs nobody an attempt"


def test_two_workers_share_one_queue(site: Site) -> None:
    for _ in range(2):
        site.alone(threads=2)
    site.create()
    eventually(lambda: len(site.workers()) == 2, 60)
    rounds = itertools.count(1)

    def both_have_worked() -> bool:
        """Whichever this machine lets run."""
        done = next(rounds)
        site.enqueue(5_000, f"text of round {done}").wait(120)
        eventually(lambda: sum(texts_of(status) for status in site.workers()) == 5_000 * done)
        return all(texts_of(status) > 500 for status in site.workers())

    eventually(both_have_worked, 120)


@pytest.mark.parametrize("away", ["paused", "killed"])
def test_without_qdrant_a_worker_waits_says_so_and_goes_on(site: Site, away: str) -> None:
    site.alone(qdrant_timeout_s=2)
    site.create()
    site.enqueue(100).wait(60)
    ledger, spec = site.client._parts.ledger, site.client.collections.get("c")
    if away == "paused":
        site.qdrant.pause()
    else:
        site.qdrant.kill()
    # What `enqueue` does, once it has asked Qdrant what the collection is.
    ticket = ledger.open_job("c")
    site.client._intake._producer.feed(spec, ticket, [Document(id=f"d{n}", text=f"text {n}") for n in range(500)])
    ledger.close_job(ticket.job_id)
    eventually(lambda: site.waits_for("Qdrant cannot be used"))
    if away == "paused":
        site.qdrant.resume()
    else:
        site.qdrant.start()
    report = site.client.jobs.get(ticket.job_id).wait(60)
    assert (report.stored, report.dead) == (500, 0)
    assert site.attempts() == {1}
    eventually(lambda: not site.waits_for("Qdrant"))


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_key_that_may_not_write_makes_a_worker_wait_and_costs_nothing(open_site: Callable[..., Site]) -> None:
    site = open_site(api_key="miller", read_only_key="visitor")
    powerless = site.alone(qdrant_api_key="visitor")
    site.create()
    job = site.enqueue(200)
    eventually(lambda: site.waits_for("PERMISSION_DENIED"), 60)
    powerless.terminate()
    assert powerless.wait(timeout=60) == 0
    site.alone()
    assert job.wait(60).stored == 200
    assert site.attempts() == {1}


def test_a_killed_worker_is_started_again_and_its_work_taken_up(site: Site) -> None:
    supervisor = site.start("--processes", "1", lease_s=2)
    site.create()
    job = site.enqueue(5_000)
    eventually(lambda: job.report().finished > 0, 60)
    (child,) = children_of(supervisor.pid)
    os.kill(child, signal.SIGKILL)
    assert job.wait(90).stored == 5_000
    assert eventually(lambda: children_of(supervisor.pid)) != [child]
    supervisor.terminate()
    assert supervisor.wait(timeout=60) == 0


def test_a_worker_whose_supervisor_was_killed_drains_and_leaves(site: Site) -> None:
    supervisor = site.start("--processes", "1")
    site.create()
    (child,) = children_of(supervisor.pid)
    supervisor.kill()
    eventually(lambda: not lives(child), 60)


def test_a_worker_that_still_waits_for_its_model_leaves_with_its_supervisor(site: Site) -> None:
    supervisor = site.start("--processes", "1", "--model", f"http://127.0.0.1:{free_port()}/v1#absent")
    (child,) = eventually(lambda: children_of(supervisor.pid), 60)
    supervisor.kill()
    eventually(lambda: not lives(child), 60)


def test_a_closed_terminal_drains_the_workers(site: Site) -> None:
    supervisor = site.start("--processes", "1")
    site.create()
    (child,) = children_of(supervisor.pid)
    supervisor.send_signal(signal.SIGHUP)
    assert supervisor.wait(timeout=60) == 0
    assert not lives(child)


def test_work_goes_on_after_redis_was_killed_and_started_again(open_site: Callable[..., Site]) -> None:
    site = open_site(redis={"appendfsync": "always"})
    site.start("--processes", "1")
    site.create()
    first = site.enqueue(3_000)
    eventually(lambda: first.report().finished > 0, 60)
    site.redis.kill()
    site.redis.start()
    assert first.wait(90).stored == 3_000
    assert site.enqueue(1_000, "after").wait(90).stored == 1_000


def test_dropped_connections_lose_nothing(site: Site) -> None:
    worker = site.alone()
    site.create()
    job = site.enqueue(6_000)
    with closing(site.redis.client()) as client:
        for quarter in range(1, 4):
            eventually(lambda quarter=quarter: job.report().finished > quarter * 1_000, 60)  # type: ignore[misc]  # default
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)
    assert job.wait(90).stored == 6_000
    assert worker.poll() is None, "it recovered by itself"


def test_a_redis_that_freezes_for_a_while_loses_nothing(site: Site) -> None:
    site.start("--processes", "1", redis_timeout_s=1, lease_s=2)
    site.create()
    job = site.enqueue(5_000)
    eventually(lambda: job.report().finished > 0, 60)
    site.redis.pause()
    threading.Event().wait(4)  # longer than the worker's lease and all its patience with one call
    site.redis.resume()
    assert job.wait(90).stored == 5_000


def test_a_redis_with_password_and_tls_serves_ledger_queue_and_queries(open_site: Callable[..., Site]) -> None:
    site = open_site(redis={"password": "miller", "tls": True})
    site.alone()
    site.create()
    assert site.enqueue(300).wait(60).stored == 300
    assert [hit.id for hit in site.client.search("c", "text 7", limit=1)] == ["7"]


def test_two_installations_share_one_redis_and_never_each_others_work(site: Site, tmp_path: Path) -> None:
    with ExitStack() as closing:
        other = Site(site.redis, site.qdrant, tmp_path, closing, key_prefix="other")
        site.alone()
        site.create()
        theirs = other.enqueue(200)
        assert site.enqueue(200, "mine").wait(60).stored == 200
        assert (theirs.report().finished, other.workers()) == (0, [])
        other.alone()
        report = theirs.wait(60)
        assert report.stored + report.superseded == 200


def test_a_query_does_not_wait_behind_bulk_work(site: Site) -> None:
    site.alone(threads=2)
    site.create()
    rounds = itertools.count()

    def overtakes() -> bool:
        """Behind the job, the answer would come when nothing of it is pending any more."""
        text = f"text of round {next(rounds)}, number"
        job = site.enqueue(30_000, text)
        eventually(lambda: job.report().finished > 0, 60)
        eventually(lambda: [hit.id for hit in site.client.search("c", f"{text} 0", limit=1)] == ["0"])
        return job.report().pending > 0

    eventually(overtakes, 120)


def test_a_worker_says_what_it_is(site: Site) -> None:
    site.alone()
    site.create()
    with closing(site.redis.client()) as client:
        assert client.ping()
    (status,) = eventually(site.workers, 60)
    (engine,) = status["engines"]
    assert (engine["model"], engine["device"], status["waiting_for"]) == (MODEL, "cpu", None)
