"""Embedded mode: the whole mill in one process, without servers.

The same pipeline, batcher and fence as a worker's; only the servers are replaced: Redis's ledger by one in memory, Qdrant
by its local mode (or a real one, by its URL), and Celery by a thread pool. (Celery's `memory://` broker would
add a second set of threads and process-wide state to carry messages from one thread to another.)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient

from gristmill.backends import Parts
from gristmill.ledger import MemoryLedger
from gristmill.ledger.reading import MemoryEvidence
from gristmill.settings import ClientSettings, load_settings
from gristmill.store.collections import Collections
from gristmill.store.connection import open_local_store, open_store
from gristmill_schemas import VectorSpace
from gristmill_worker.pipeline.engine import Engine, load_encoder
from gristmill_worker.pipeline.pipeline import Handled
from gristmill_worker.settings import WorkerSettings

log = logging.getLogger(__name__)


def open_embedded(settings: ClientSettings, overrides: Mapping[str, Any]) -> Parts:
    """Load the model of the settings and start an engine around it. Takes as long as loading the model does."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set} | dict(overrides)
    worker_settings = load_settings(WorkerSettings, **given)
    encoder = load_encoder(worker_settings)
    ledger = MemoryLedger(roster=worker_settings.roster)
    closing = ExitStack()
    store, local = _open_store(worker_settings)
    closing.callback(store.close)
    dispatcher = ThreadDispatcher(worker_settings.threads)
    engine = Engine(
        worker_settings,
        encoder,
        ledger,
        store,
        Collections(store, local=local),
        publish=dispatcher.publish,
    )
    closing.callback(engine.close)
    dispatcher.start(engine)
    closing.callback(dispatcher.close)
    engine.start()
    queries, evidence = _EngineQueries(engine), MemoryEvidence(ledger)
    return Parts(worker_settings, ledger, dispatcher, store, queries, evidence, local=local, closing=closing)


def _open_store(settings: WorkerSettings) -> tuple[QdrantClient, bool]:
    place = settings.embedded_path or ":memory:"
    if place.startswith(("http://", "https://")):
        return open_store(settings.model_copy(update={"qdrant_url": place})), False
    return open_local_store(place), True


class ThreadDispatcher:
    """`Dispatcher` to threads of this process."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gristmill-task")
        self._engine: Engine | None = None
        self._closing = threading.Event()

    def start(self, engine: Engine) -> None:
        """Where parcels go. Separate from construction, since the engine publishes through this too."""
        self._engine = engine

    def publish(self, model_digest: str, count: int = 1) -> None:
        """See `Dispatcher.publish`."""
        for _ in range(count):
            self._pool.submit(self._process)

    def _process(self) -> None:
        if self._engine is None or self._closing.is_set():
            return
        while self._engine.pipeline.process() is Handled.LATER:
            if self._closing.is_set() or self._engine.draining.is_set():
                return

    def close(self) -> None:
        """Stop within about one batch; what is not stored by then is forgotten with this process (`job.wait()` first)."""
        self._closing.set()
        if self._engine is not None:
            self._engine.drain()
            self._engine.batcher.close()
        self._pool.shutdown(wait=True, cancel_futures=True)


class _EngineQueries:
    """`QueryEncoder` in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def encode(self, space: VectorSpace, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self._engine.encode_queries(space, texts)

    def close(self) -> None:
        return
