"""Where the benchmark runs: workers and sides as processes, a collection for each pass, clocks that see them all."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from qdrant_client import models

from gristmill import Client, ClientSettings, JobReport
from gristmill.backends import open_parts
from gristmill.ledger import Ledger
from gristmill.ledger.connection import broker_errors, connect
from gristmill.models import engines
from gristmill.settings import load_settings, variable
from gristmill.store.bulk import index_status
from gristmill.store.connection import require_server, store_errors
from gristmill_schemas import IndexState, ModelTask
from gristmill_schemas.errors import GristmillError, InvalidInput
from gristmill_worker.bench.pipeline.meters import (
    CpuClock,
    added_up,
    largest_rss_mb,
    processes_clock,
    qdrant_clock,
    redis_clock,
)
from gristmill_worker.bench.pipeline.processes import Side, running, running_side
from gristmill_worker.bench.pipeline.records import Pass, Plan
from gristmill_worker.process.supervisor import supervised_worker

#: Longest wait for workers to load their model, and for Qdrant to build its indexes.
_READY_S, _GREEN_S = 600.0, 3_600.0
_LOOK_S = 0.02
#: How often the workers are seen to live while nothing else is looked at.
_LIVES_S = 0.5
#: Green that lasts so long, though fewer vectors are in the index than were written, is the end.
_SETTLED_S = 10.0
#: Keys that are forgotten at once.
_KEYS = 1_000
#: Without the threshold Qdrant would finish segments of 10 MB all the same, and copy what is in them at each change.
_NO_INDEX: Final[Mapping[str, Any]] = {
    "hnsw_config": models.HnswConfigDiff(m=0),
    "optimizers_config": models.OptimizersConfigDiff(indexing_threshold=0),
}
#: Of each vector in an index, Qdrant's own default.
_EDGES = 16
#: Qdrant leaves parts smaller than its threshold, 10 to 20 MB of vectors, without an index. After the writes it is lowered
#: to 1 kB: whatever was written is indexed then, on every side, and however few the documents are.
_INDEX_ALL = models.OptimizersConfigDiff(indexing_threshold=1)
#: Told what is being done.
Note = Callable[[str], None]
#: Does the work of a pass; gives its seconds, and the CPU seconds of whoever did it.
Work = Callable[[], tuple[float, float]]


class Site:
    """On running servers, under a key prefix of its own. Leaves no process, no collection and no key behind."""

    def __init__(self, plan: Plan, note: Note, closing: ExitStack) -> None:
        """Start the workers; returns when all are ready. Everything ends with `closing`.

        Raises:
            BrokerUnavailable, StoreUnavailable: Redis or Qdrant is away.
            InvalidInput: embedded mode is set.
        """
        self._plan, self._note, self._closing = plan, note, closing
        self._settings = load_settings(ClientSettings, key_prefix=f"bench-{uuid.uuid4().hex[:8]}")
        if self._settings.embedded_path is not None:
            raise InvalidInput(
                "embedded_path: expected none for a benchmark of servers, got "
                f"{self._settings.embedded_path!r}; unset {variable('embedded_path')}",
                field="embedded_path",
            )
        self._numbers = itertools.count()
        self._client = closing.enter_context(Client(self._settings))
        parts = open_parts(self._settings, {})
        closing.callback(parts.close)
        self.store, self._ledger = parts.store, parts.ledger
        self._ledger.now()
        require_server(self.store)
        closing.callback(self._forget)
        self._workers = self._start_workers()
        self._pids = [each.pid for each in self._workers]
        self._clocks: dict[str, CpuClock] = {
            "worker": processes_clock(self._pids),
            "qdrant": qdrant_clock(self._settings),
            "redis": redis_clock(self._settings),
        }
        self.encoder = next(each for each in self._client.models.list() if each.task is ModelTask.EMBEDDING)

    @property
    def settings(self) -> ClientSettings:
        """What clients of the workers are opened with."""
        return self._settings

    @property
    def ledger(self) -> Ledger:
        """Knows what the workers say of themselves."""
        return self._ledger

    def budgets(self) -> list[int]:
        """Tokens per batch of each worker."""
        return [int(each["budget_tokens"]) for each in self._encoders()]

    def rss_mb(self) -> float:
        """Resident memory of the largest worker process, in 10^6 bytes."""
        return largest_rss_mb(self._pids)

    # processes

    @contextmanager
    def halted(self) -> Iterator[None]:
        """The workers do nothing while the block runs. After ten seconds they count as gone; see `settled`."""
        with _woken_anyhow(self._workers):
            try:
                for each in self._workers:
                    each.send_signal(signal.SIGSTOP)
                yield
            finally:
                for each in self._workers:
                    each.send_signal(signal.SIGCONT)

    def _start_workers(self) -> list[subprocess.Popen[str]]:
        count = self._plan.workers
        self._note(f"starting {count} worker{'s' * (count > 1)} with {self._plan.encoder}")
        command = [*supervised_worker(), "--model", self._plan.encoder, "--log-level", "error"]
        command += [] if self._plan.reranker is None else ["--reranker", self._plan.reranker]
        workers = [
            # Standard output belongs to the report.
            self._closing.enter_context(running(command, self._environment, stdout=2))
            for _ in range(count)
        ]
        until = time.monotonic() + _READY_S
        while len(self._encoders()) < count or (self._plan.reranker and len(list(engines(self._ledger))) < 2 * count):
            _require_alive(workers)
            if time.monotonic() > until:
                raise GristmillError(f"workers with {self._plan.encoder} were not ready within {_READY_S:.0f} s")
            time.sleep(_LOOK_S)
        return workers

    def _encoders(self) -> list[Mapping[str, Any]]:
        return [each for each in engines(self._ledger) if each.get("task", ModelTask.EMBEDDING) == ModelTask.EMBEDDING]

    def model_seconds(self) -> dict[str, float]:
        """Seconds that the workers' models have waited so far, by cause, and `busy`: of heartbeats after this call."""
        before, now = self._idle_clocks(), self._idle_clocks()
        until = time.monotonic() + _READY_S
        # Together they are the time since a model's start, which stands still until a worker says something new. One that
        # was halted for long is not among them before.
        while len(now) < self._plan.workers or any(
            sum(clock.values()) <= sum(before.get(worker, {}).values()) for worker, clock in now.items()
        ):
            _require_alive(self._workers)
            if time.monotonic() > until:
                raise GristmillError(f"a worker has said nothing of itself for {_READY_S:.0f} s")
            time.sleep(_LOOK_S)
            now = self._idle_clocks()
        return added_up(list(now.values()))

    def settled(self) -> dict[str, float]:
        """The same, once each worker counts all others again, of whom it had heard nothing while they were `halted`."""
        if self._plan.workers > 1:
            self.model_seconds()
        # All have spoken. Whoever does so from here on looks at once who else is there.
        return self.model_seconds()

    def launch_ms(self) -> list[Mapping[str, float]]:
        """How long each worker's thread took to launch one of the latest batches; see `Batcher.launch_ms`."""
        return [each["launch_ms"] for each in self._statuses().values() if each["launch_ms"]]

    def _idle_clocks(self) -> dict[str, Mapping[str, float]]:
        return {worker: each["idle"] for worker, each in self._statuses().items()}

    def _statuses(self) -> dict[str, Mapping[str, Any]]:
        said: Mapping[str, Any] = self._ledger.workers()
        return {
            worker: engine
            for worker, status in said.items()
            for engine in status["engines"]
            if engine["model_digest"] == self.encoder.digest
        }

    @property
    def _environment(self) -> dict[str, str]:
        chosen = {"OMP_NUM_THREADS": self._plan.torch_threads, variable("budget_tokens"): self._plan.budget_tokens}
        ours = {name: str(value) for name, value in chosen.items() if value is not None}
        return {variable("key_prefix"): self._settings.key_prefix, **ours}

    def side(self, name: str, /, **options: Any) -> Side:
        """A side, prepared; see `sides`."""
        (side,) = self.sides(name, [options])
        return side

    def sides(self, name: str, /, each: Sequence[Mapping[str, Any]]) -> list[Side]:
        """One for each of these options, prepared side by side: what takes long there is to load a model."""
        self._note(f"preparing: {name}{'s' * (len(each) > 1)}")
        sides = [self._closing.enter_context(running_side(name, self._environment, **options)) for options in each]
        for side in sides:
            side.answer()
        return sides

    # collections

    @contextmanager
    def collection(self) -> Iterator[str]:
        """A collection of ours for the workers' model, payload indexes included, until the block is left.

        Without keywords, which none of the others writes.
        """
        with self._deleted_in_the_end() as name:
            self._client.create_collection(name, self.encoder.digest, keyword=False)
            if not self._plan.index:
                with store_errors(name):
                    self.store.update_collection(name, **_NO_INDEX)
            yield name

    @contextmanager
    def usual_collection(self) -> Iterator[str]:
        """One as applications make it, with keywords and all indexes."""
        with self._deleted_in_the_end() as name:
            self._client.create_collection(name, self.encoder.digest)
            yield name

    @contextmanager
    def plain_collection(self) -> Iterator[str]:
        """One as other tools make it, without payload indexes."""
        with self._deleted_in_the_end() as name:
            size = models.VectorParams(size=self.encoder.dimensions, distance=models.Distance.COSINE)
            with store_errors(name):
                self.store.create_collection(name, vectors_config=size, **({} if self._plan.index else _NO_INDEX))
            yield name

    @contextmanager
    def _deleted_in_the_end(self) -> Iterator[str]:
        name = f"{self._settings.key_prefix}-{next(self._numbers)}"
        try:
            yield name
        finally:
            with self._noted(f"collection {name!r} could not be deleted"), store_errors(name):
                self.store.delete_collection(name)

    def _forget(self) -> None:
        prefix, url = self._settings.key_prefix, self._settings.redis_url
        client = connect(self._settings)
        with self._noted(f"the keys that begin with {prefix!r} could not be deleted"), broker_errors(url):
            keys = list(client.scan_iter(f"*{prefix}*", count=_KEYS))
            for start in range(0, len(keys), _KEYS):
                client.unlink(*keys[start : start + _KEYS])
        client.close()

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        """What fails while something is cleared away must not hide why that is so."""
        try:
            yield
        except GristmillError as error:
            self._note(f"{what}: {error}")

    # passes

    def cpu_s(self, since: Mapping[str, float | None] | None = None) -> dict[str, float | None]:
        """CPU seconds of workers, Qdrant and Redis, so far or since an earlier look; None where they cannot be seen."""
        now = {name: clock() for name, clock in self._clocks.items()}
        return now if since is None else {name: _difference(now[name], since[name]) for name in now}

    def measured(self, collection: str, documents: int, work: Work) -> Pass:
        """Do the work, wait for Qdrant's indexes, and see what each party spent.

        With indexes Qdrant is then made to index what it left out, so that all sides wait for the same.
        """
        before = self.cpu_s()
        began = time.perf_counter()
        seconds, side_s = work()
        if self._plan.index:
            with store_errors(collection):
                self.store.update_collection(collection, optimizers_config=_INDEX_ALL)
        indexed = self._await_green(collection, documents if self._plan.index else 0)
        green_s = time.perf_counter() - began
        spent = self.cpu_s(before)
        return Pass(documents, seconds, green_s, indexed, {"side": side_s, **spent})

    def index(self, collection: str) -> None:
        """Have Qdrant build the index of a collection, all of it, and wait for it."""
        with store_errors(collection):
            self.store.update_collection(
                collection, hnsw_config=models.HnswConfigDiff(m=_EDGES), optimizers_config=_INDEX_ALL
            )
        self._await_green(collection)

    def _await_green(self, collection: str, expected: int = 0) -> int:
        """Returns the vectors that are in the index then.

        With less than is expected in it, green is believed once it lasts: just after a change of its settings Qdrant is
        green, too, since it has not begun yet.
        """
        until = time.monotonic() + _GREEN_S
        green_since: float | None = None
        while True:
            status, now = index_status(self.store, collection, collection)[0], time.monotonic()
            if status.state is IndexState.FAILED:
                raise GristmillError(f"Qdrant could not build the index: {status.problem}")
            green_since = (green_since or now) if status.state is IndexState.READY else None
            if green_since is not None and (status.indexed >= expected or now - green_since > _SETTLED_S):
                return status.indexed
            if now > until:
                raise GristmillError(f"Qdrant was not green within {_GREEN_S:.0f} s")
            time.sleep(_LOOK_S)

    def finish(self, job_id: str, expected_s: float = 0.0) -> JobReport:
        """Wait for a job while the workers live.

        Args:
            job_id: it.
            expected_s: what it takes at least. It is hardly looked at before, which the workers would pay for; its seconds
                are by the ledger's clock, whenever anybody looks.
        """
        until = time.monotonic() + expected_s
        while (left_s := until - time.monotonic()) > 0:
            _require_alive(self._workers)
            time.sleep(min(left_s, _LIVES_S))
        report = self._client.jobs.get(job_id).wait(progress=lambda _: _require_alive(self._workers))
        if report.dead or report.rejected:
            self._note(report.describe_failures())
        return report


@contextmanager
def _woken_anyhow(halted: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """Processes go on though this one is killed meanwhile: a shell waits for the end of a pipe that this one has open.

    What is halted cannot see that nobody wants it any more, and a server that is to stop waits for its connections.
    """
    waking = ["sh", "-c", 'read _; kill -CONT "$@"', "sh", *(str(each.pid) for each in halted)]
    with subprocess.Popen(waking, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True):
        yield


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _require_alive(workers: list[subprocess.Popen[str]]) -> None:
    if ended := [code for each in workers if (code := each.poll()) is not None]:
        raise GristmillError(f"a worker ended with {ended[0]}; what it said stands above")
