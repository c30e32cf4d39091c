"""Embedded mode: the whole mill in one process, without servers.

The same pipeline, batcher and fence as a worker's; only the servers are replaced: Redis's ledger by one in memory, Qdrant
by its local mode (or a real one, by its URL), and Celery by a thread pool. (Celery's `memory://` broker would
add a second set of threads and process-wide state to carry pointers from one thread to another.)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient

from gristmill.backends import Parts
from gristmill.ledger import Keeping, MemoryLedger
from gristmill.ledger.reading import MemoryEvidence
from gristmill.maintenance.bulk_loads import BulkLoads
from gristmill.search.remembered_vectors import RememberedVectors
from gristmill.search.reranking.pair_scores import Pairs, Scores
from gristmill.settings import ClientSettings, load_settings
from gristmill.store.collections import Collections
from gristmill.store.connection import open_local_store, open_store
from gristmill_schemas import EncoderInfo, VectorSpace
from gristmill_schemas.redaction import clean_loggers
from gristmill_worker.phases import shown
from gristmill_worker.pipeline.bulk_loads import BULK_PERIOD_S, BulkLoadsOver
from gristmill_worker.pipeline.engine import Engine, load_encoder
from gristmill_worker.pipeline.handler import Handled
from gristmill_worker.pipeline.late_writes import PERIOD_S, LateWrites
from gristmill_worker.process.host import Host
from gristmill_worker.process.reconciler import Reconciler
from gristmill_worker.reranker import Reranker
from gristmill_worker.reranker.loading import load_reranker, of_reranker
from gristmill_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

#: Pause before work that could not be decided yet is tried again.
_PAUSE_S = 0.05
_LONG_PAUSE_S = 0.5
_RECONCILE_S = 0.5


def open_embedded(settings: ClientSettings, overrides: Mapping[str, Any], progress: bool | None = None) -> Parts:
    """Load the model of the settings and start a host around it. Takes as long as loading the model does.

    Args:
        settings: of the application.
        overrides: may hold settings that only the worker knows.
        progress: show on stderr what the start is at; None where somebody looks.
    """
    with shown(progress):
        return _open(settings, overrides)


def _open(settings: ClientSettings, overrides: Mapping[str, Any]) -> Parts:
    given = {name: getattr(settings, name) for name in settings.model_fields_set} | dict(overrides)
    worker_settings = load_settings(WorkerSettings, **given)
    encoder = load_encoder(worker_settings)
    rerankers = [load_reranker(each) for each in of_reranker(worker_settings)]
    ledger = MemoryLedger(roster=worker_settings.roster, keeping=Keeping.of(worker_settings))
    # Whatever fails from here on leaves the folder to whoever tries again.
    with ExitStack() as closing:
        store, local = _open_store(worker_settings)
        closing.callback(store.close)
        dispatcher = ThreadDispatcher(worker_settings.threads)
        # This process belongs to the application: a thread of ours that dies is logged, and ends nothing else.
        host = Host(worker_settings, ledger, store, Collections(store, local=local), dispatcher.publish, died=_log_only)
        closing.callback(host.close)
        engine = host.add(encoder)
        for each in rerankers:
            host.add_reranker(each)
        dispatcher.start(host)
        closing.callback(dispatcher.close)
        # Only what was given back for a while needs it: nothing gets lost on the way to a thread.
        reconciler = Reconciler(ledger, dispatcher, dispatcher, engine.digest, host.worker_id, _RECONCILE_S)
        late = LateWrites(ledger, store, host.collections, host.worker_id)
        chores: dict[str, tuple[float, Callable[[], None]]] = {
            "reconciler": (_RECONCILE_S, reconciler),
            "late writes": (PERIOD_S, late),
        }
        # The model is at hand: nothing is remembered.
        queries, evidence = RememberedVectors(_EngineQueries(engine), max_bytes=0), MemoryEvidence(ledger)
        if not local:
            loads = BulkLoads(store, ledger, evidence)
            over = BulkLoadsOver(ledger, host.collections, loads, host.notices, host.worker_id)
            chores["bulk loads"] = (BULK_PERIOD_S, over)
        host.start(chores=chores)
        clean_loggers()
        scorer = _Scores(rerankers)
        kept = closing.pop_all()
        return Parts(worker_settings, ledger, dispatcher, store, queries, evidence, scorer, local=local, closing=kept)


def _log_only(name: str, error: BaseException) -> None:
    log.critical("thread %s died", name, exc_info=error)


def _open_store(settings: WorkerSettings) -> tuple[QdrantClient, bool]:
    place = settings.embedded_path or ":memory:"
    if "://" in place:
        return open_store(settings.model_copy(update={"qdrant_url": place})), False
    return open_local_store(place), True


class ThreadDispatcher:
    """`Dispatcher` to threads of this process."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gristmill-task")
        self._host: Host | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._waiting = 0

    def start(self, host: Host) -> None:
        """Where work goes. Separate from construction, since the host publishes through this too."""
        self._host = host

    def publish(self, model_digest: str, count: int = 1) -> None:
        """See `Dispatcher.publish`."""
        for _ in range(count):
            with self._lock:
                self._waiting += 1
            self._pool.submit(self._work, model_digest)

    def length(self) -> int:
        """Messages that no thread has taken yet."""
        return self._waiting

    def _work(self, model_digest: str) -> None:
        with self._lock:
            self._waiting -= 1
        if self._host is None or (engine := self._host.engines.get(model_digest)) is None:
            return
        while not self._closing.is_set() and engine.process() is Handled.LATER:
            # There is no supervisor here: with a sick device work waits until the application opens another client.
            self._closing.wait(_PAUSE_S if engine.willing else _LONG_PAUSE_S)

    def close(self) -> None:
        """Stop within about one batch; what is not stored by then is forgotten with this process (`job.wait()` first)."""
        self._closing.set()
        if self._host is not None:
            self._host.drain()
            for engine in self._host.engines.values():
                engine.batcher.close()
        self._pool.shutdown(wait=True, cancel_futures=True)


class _EngineQueries:
    """`QueryEncoder` in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def encode(self, space: VectorSpace, texts: Sequence[str], *, bulk: bool = False) -> npt.NDArray[np.float32]:
        return self._engine.encode_queries(space, texts, bulk=bulk)


class _Scores:
    """`PairScorer` in this process."""

    def __init__(self, rerankers: Sequence[Reranker]) -> None:
        self._rerankers = {each.info.digest: each for each in rerankers}

    def require(self, reranker: EncoderInfo) -> None:
        """What this process has announced is here."""

    def score(self, reranker: EncoderInfo, asked: Sequence[Pairs]) -> list[Scores]:
        here = self._rerankers[reranker.digest]
        return [here.score(each.query, each.documents, each.instruction) for each in asked]
