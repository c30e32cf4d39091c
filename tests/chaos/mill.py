"""A whole mill of real processes, and the hands that break it.

Servers are the tests' own unless the command line names others (see `docs/chaos.md`); then they can be restarted only by
the commands given there.
"""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gristmill import Client, ClientSettings
from gristmill.settings import load_settings, variable
from services import QdrantServer, RedisServer

WORKER = Path(__file__).with_name("poison_worker.py")


@dataclass(frozen=True)
class Target:
    """Servers under test: ours to kill, or somebody's deployment."""

    redis_url: str
    qdrant_url: str
    qdrant_grpc_port: int
    restart_redis: Callable[[], None] | None
    restart_qdrant: Callable[[], None] | None


def own_servers(closing: ExitStack) -> Target:
    """A Redis with append-only file and a Qdrant, both killed without warning and started again on request."""
    folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)))
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

    return Target(redis.url, qdrant.url, qdrant.grpc_port, restart(redis), restart(qdrant))


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
    environment: dict[str, str] = field(default_factory=dict)
    log_path: Path | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.done: Counter[str] = Counter()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def client(self, **settings: object) -> Client:
        """A client of this mill."""
        return Client(
            load_settings(
                ClientSettings,
                redis_url=self.target.redis_url,
                qdrant_url=self.target.qdrant_url,
                qdrant_grpc_port=self.target.qdrant_grpc_port,
                key_prefix=self.prefix,
                **settings,
            )
        )

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

    @contextmanager
    def running(self) -> Iterator[Mill]:
        """Start the workers and restart whichever dies, until the block ends; then all must drain and exit."""
        self._processes = [self._spawn() for _ in range(self.workers)]
        sitter = threading.Thread(target=self._babysit, daemon=True)
        sitter.start()
        try:
            yield self
        finally:
            self._stop.set()
            sitter.join()
            for process in self._processes:
                process.send_signal(signal.SIGTERM)
            for process in self._processes:
                process.wait(timeout=60)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(WORKER), self.model]
        with open(self.log_path or os.devnull, "ab") as log:  # noqa: PTH123 - a path or the null device
            return subprocess.Popen(command, env=self.worker_environment, stdout=log, stderr=log)

    def _babysit(self) -> None:
        while not self._stop.wait(0.05):
            with self._lock:
                for index, process in enumerate(self._processes):
                    if process.poll() is not None:
                        self._processes[index] = self._spawn()
                        self.done["restarts"] += 1

    # the hands

    def kill_worker(self) -> None:
        """SIGKILL one worker, at random."""
        with self._lock:
            process = self.random.choice(self._processes)
            process.kill()
            process.wait()
        self.done["kills"] += 1

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


def persist(call: Callable[[], object], deadline_s: float = 60.0) -> object:
    """Do what an application does while a server is away: try again."""
    from gristmill import Unavailable

    until = time.monotonic() + deadline_s
    while True:
        try:
            return call()
        except Unavailable:
            if time.monotonic() > until:
                raise
            threading.Event().wait(0.2)
