"""A whole mill of real processes, and the hands that break it.

Servers are the tests' own unless the command line names others (see `docs/explanation/chaos.md`); then they can be restarted
only by the commands given there, and scenarios that need more than a restart are left out.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shlex
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeVar

import pytest

from chaos import poison_worker
from chaos.verdict import Verdict
from gristmill import Client, ClientSettings, Document, QueueFull, Unavailable
from gristmill.settings import load_settings, variable
from services import QdrantServer, RedisServer
from services.folders import server_folder
from waiting import eventually

T = TypeVar("T")
#: Set when a thread is to end.
Stop = threading.Event

#: Workers are forked off a server that has imported all this and done nothing else: most of a worker's start are imports.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "gristmill_worker.process.app",
        "gristmill_worker.encoder.hash_encoder",
        "celery.apps.worker",
        "celery.concurrency.thread",
        "kombu.transport.redis",
    ]
)

#: A worker that dies as soon as it starts is started again this often.
_LEAST_LIFE_S = 0.5


@dataclass(frozen=True)
class Target:
    """Servers under test: ours to kill, or somebody's deployment."""

    redis_url: str
    qdrant_url: str
    qdrant_grpc_port: int
    restart_redis: Callable[[], None] | None
    restart_qdrant: Callable[[], None] | None
    #: The servers themselves, where they are ours.
    own: tuple[RedisServer, QdrantServer] | None = None


def own_servers(closing: ExitStack) -> Target:
    """A Redis with append-only file and a Qdrant, both killed without warning and started again on request."""
    folder = Path(closing.enter_context(server_folder()))
    for name in ("redis", "qdrant"):
        (folder / name).mkdir()
    # `always`: under `everysec` a killed Redis loses what it had acknowledged while an fsync was under way.
    redis = closing.enter_context(RedisServer(folder / "redis", appendfsync="always"))
    qdrant = closing.enter_context(QdrantServer(folder / "qdrant"))

    def restart(server: RedisServer | QdrantServer) -> Callable[[], None]:
        def kill_and_start() -> None:
            server.kill()
            server.start()

        return kill_and_start

    return Target(redis.url, qdrant.url, qdrant.grpc_port, restart(redis), restart(qdrant), (redis, qdrant))


def shell(command: str | None) -> Callable[[], None] | None:
    """A restart by somebody else's command."""
    if command is None:
        return None
    words = shlex.split(command)

    def run() -> None:
        subprocess.run(words, check=True)

    return run


@dataclass
class Mill:
    """Workers over a target, kept alive by a babysitter as a supervisor would."""

    target: Target
    prefix: str
    workers: int
    seed: int
    model: str = "hash:32"
    #: Variables of all workers, and of single ones by their number.
    environment: Mapping[str, str] = field(default_factory=dict)
    each: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    log_path: Path = Path(os.devnull)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.done: Counter[str] = Counter()
        self._processes: list[ForkServerProcess] = []
        self._started: dict[int, float] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @property
    def redis(self) -> RedisServer:
        """Redis, to do with as one likes."""
        return self._own[0]

    @property
    def qdrant(self) -> QdrantServer:
        """Qdrant, to do with as one likes."""
        return self._own[1]

    @property
    def _own(self) -> tuple[RedisServer, QdrantServer]:
        if self.target.own is None:
            pytest.skip("this scenario needs servers of its own")
        return self.target.own

    def client(self, **settings: object) -> Client:
        """A client of this mill."""
        own: dict[str, Any] = {
            "redis_url": self.target.redis_url,
            "qdrant_url": self.target.qdrant_url,
            "qdrant_grpc_port": self.target.qdrant_grpc_port,
            "key_prefix": self.prefix,
        }
        return Client(load_settings(ClientSettings, **{**own, **settings}))

    @property
    def worker_environment(self) -> dict[str, str]:
        """Variables of worker processes: leases and looks short, so that minutes show what days would."""
        settings = {
            "redis_url": self.target.redis_url,
            "qdrant_url": self.target.qdrant_url,
            "qdrant_grpc_port": str(self.target.qdrant_grpc_port),
            "key_prefix": self.prefix,
            "lease_s": "3",
            "reconcile_every_s": "0.5",
            "threads": "4",
        }
        return {**os.environ, **{variable(name): value for name, value in settings.items()}, **self.environment}

    def sizes(self) -> Iterator[int]:
        """How many documents an application hands over at a time."""
        while True:
            yield self.random.choice([1, 10, 100, 500])

    @contextmanager
    def running(self) -> Iterator[Mill]:
        """Start the workers and restart whichever dies, until the block ends; then all must drain and exit."""
        self._processes = [self.start_worker(index) for index in range(self.workers)]
        sitter = threading.Thread(target=self._babysit, daemon=True)
        sitter.start()
        patience_s = 0.0
        try:
            yield self
            patience_s = 120.0
        finally:
            self._stop.set()
            sitter.join()
            end(self._processes, patience_s, self.log_path)

    def start_worker(self, number: int = 0) -> ForkServerProcess:
        """One more worker process, which nobody starts again when it dies."""
        environment = {**self.worker_environment, **self.each.get(number, {})}
        arguments = (self.model, environment, str(Path.cwd()), str(self.log_path))
        process = _FORKS.Process(target=poison_worker.work, args=arguments, daemon=True)
        process.start()
        self._started[number] = time.monotonic()
        return process

    def _babysit(self) -> None:
        while not self._stop.wait(0.05):
            with self._lock:
                for number, process in enumerate(self._processes):
                    if not process.is_alive() and time.monotonic() > self._started[number] + _LEAST_LIFE_S:
                        self._processes[number] = self.start_worker(number)
                        self.done["restarts"] += 1

    # the hands

    def kill_worker(self) -> None:
        """SIGKILL one worker, at random."""
        with self._lock:
            process = self.random.choice(self._processes)
            process.kill()
            process.join()
        self.done["kills"] += 1

    def signal_worker(self, number: int, what: signal.Signals) -> None:
        """Send a signal to one worker."""
        with self._lock:
            send(self._processes[number], what)

    def signal_all(self, what: signal.Signals) -> None:
        """Send a signal to all workers."""
        for number in range(self.workers):
            self.signal_worker(number, what)

    def restart_redis(self) -> None:
        """Kill Redis and start it again."""
        if self.target.restart_redis is not None:
            self.target.restart_redis()
            self.done["redis_restarts"] += 1

    def restart_qdrant(self) -> None:
        """Kill Qdrant and start it again."""
        if self.target.restart_qdrant is not None:
            self.target.restart_qdrant()
            self.done["qdrant_restarts"] += 1

    def wreak(self, events: Sequence[str], pause_s: tuple[float, float]) -> None:
        """Perform the named events in random order, at random moments."""
        order = list(events)
        self.random.shuffle(order)
        for event in order:
            self._stop.wait(self.random.uniform(*pause_s))
            getattr(self, event)()


def send(process: ForkServerProcess, what: signal.Signals) -> None:
    """Signal a worker process, if it still lives."""
    if process.pid is not None and process.is_alive():
        with suppress(ProcessLookupError):
            os.kill(process.pid, what)


def end(processes: Sequence[ForkServerProcess], patience_s: float, log_path: Path = Path(os.devnull)) -> None:
    """Ask worker processes to drain; those that have not ended after so many seconds are killed, and an error is raised.

    The error says what their threads were doing, and has the end of their log: who hangs once in a thousand runs is not
    seen again.
    """
    for process in processes:
        send(process, signal.SIGTERM)
        send(process, signal.SIGCONT)
    until = time.monotonic() + patience_s
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    late = [process for process in processes if process.is_alive()]
    for process in late if patience_s else ():
        send(process, poison_worker.STACKS)
        # Writes the stacks of all threads, unless it hangs where no signal gets.
        process.join(2.0)
    for process in late:
        process.kill()
        process.join()
    if late and patience_s:
        who = ", ".join(str(process.pid) for process in late)
        log = "\n".join(log_path.read_text(errors="replace").splitlines()[-400:])
        raise AssertionError(f"{who} did not end within {patience_s:g} s of SIGTERM\n{log}")


def ready(client: Client) -> set[int]:
    """Processes whose workers have loaded their model and do not drain."""
    workers = client._parts.ledger.workers()
    return {int(name.split(":")[1]) for name, status in workers.items() if status["state"] in ("ready", "waiting")}


def texts_of(count: int, marks: Mapping[int, str] | None = None, first: int = 0) -> dict[str, str]:
    """Texts by document id; some carry a mark."""
    return {str(n): f"document {n} {(marks or {}).get(n, 'is fine')}" for n in range(first, first + count)}


def send_off(
    client: Client, texts: Mapping[str, str], collection: str = "c", *, stop: Stop | None = None, **options: Any
) -> str:
    """Enqueue them as one job; returns its id."""
    documents = [Document(id=key, text=text) for key, text in texts.items()]
    return persist(lambda: client.enqueue(collection, documents, **options), stop=stop).id


def ingest(client: Client, count: int, jobs: list[str], sizes: Iterator[int], stop: Stop | None = None) -> None:
    """Enqueue `count` documents in calls of various sizes, trying again while a server is away."""
    start, patience_s = 0, None if stop is None else 1.0
    while start < count:
        end = min(start + next(sizes), count)
        batch = [Document(id=str(n), text=f"text of document {n}", metadata={"n": n}) for n in range(start, end)]
        job = persist(lambda batch=batch: client.enqueue("c", batch, timeout_s=patience_s), stop=stop)  # type: ignore[misc]  # default
        jobs.append(job.id)
        start = end


def persist(call: Callable[[], T], deadline_s: float = 240.0, stop: Stop | None = None) -> T:
    """Do what an application does while a server is away or the queue is full: try again."""
    until = time.monotonic() + deadline_s
    stop = stop or threading.Event()
    while True:
        try:
            return call()
        except (Unavailable, QueueFull):
            if time.monotonic() > until or stop.wait(0.2):
                raise


class Meanwhile(threading.Thread):
    """Work on a thread of its own for as long as the block runs; what has not ended by then is told to stop."""

    def __init__(self, work: Callable[[Stop], None]) -> None:
        super().__init__()
        self._work = work
        self._told = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._work(self._told)
        except Exception as error:
            self._error = error

    def until(self, look: Callable[[], object], within_s: float) -> None:
        """Wait for a condition; raises what the work raises meanwhile."""

        def looked() -> object:
            self._check()
            return look()

        eventually(looked, within_s)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Meanwhile:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._told.set()
        self.join()
        if kind is None:
            self._check()


#: `mill(workers=4)`, and further fields of `Mill`.
MakeMill = Callable[..., Mill]
#: Reports a scenario's verdict and holds it against the promises.
Conclude = Callable[[Verdict], None]
