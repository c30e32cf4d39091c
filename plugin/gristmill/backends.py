"""The composition root of an application: which ledger, broker, store and query encoder a client works with."""

from __future__ import annotations

import functools
import importlib.metadata
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from qdrant_client import QdrantClient

from gristmill.extras import brought_by
from gristmill.ingest.broker import CeleryDispatcher, Dispatcher
from gristmill.ledger import HighWater, Ledger, RedisLedger
from gristmill.ledger.connection import connect
from gristmill.ledger.reading import Evidence, RedisEvidence
from gristmill.search.query_vectors import WorkerQueryEncoder
from gristmill.search.remembered_vectors import RememberedVectors
from gristmill.search.reranking import PairScorer, WorkerScores
from gristmill.settings import ClientSettings
from gristmill.store.collections import Collections
from gristmill.store.connection import open_store
from gristmill_schemas import CollectionSpec
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.redaction import clean_loggers


@dataclass(frozen=True)
class Parts:
    """Everything a client is made of."""

    settings: ClientSettings
    ledger: Ledger
    dispatcher: Dispatcher
    store: QdrantClient
    queries: RememberedVectors
    evidence: Evidence
    scorer: PairScorer
    #: Qdrant's local mode instead of a server.
    local: bool = False
    #: Closes all of the above, in reverse order of opening.
    closing: ExitStack = field(default_factory=ExitStack)
    #: Set once they are closed.
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def collections(self) -> Collections:
        """Collections of this store."""
        return Collections(
            self.store,
            local=self.local,
            made=lambda spec: self.evidence.begin(spec.physical, spec.key),
            created=lambda spec: self.ledger.note_collection(spec.physical, spec.key),
            deleted=self._forget,
        )

    def _forget(self, spec: CollectionSpec) -> None:
        self.ledger.note_deletion(spec.physical)
        self.evidence.forget(spec.key)

    def until_closed(self) -> Parts:
        """The same parts; each of them raises InvalidInput from `close` on, whoever still holds it.

        Without this, a closed Redis pool would quietly open new connections, and a closed Qdrant client would raise
        errors of libraries that the caller has never heard of.
        """
        guarded: dict[str, Any] = {
            name: _UntilClosed(getattr(self, name), self.closed)
            for name in ("ledger", "dispatcher", "store", "queries", "scorer", "evidence")
        }
        return replace(self, **guarded)

    def close(self) -> None:
        """Close everything; again is harmless."""
        self.closed.set()
        self.closing.close()

    @property
    def high_water(self) -> HighWater:
        """Marks above which `enqueue` waits."""
        return HighWater.of(self.settings)


class _UntilClosed:
    """A part of a client, until the client is closed."""

    def __init__(self, part: object, closed: threading.Event) -> None:
        self._part = part
        self._closed = closed

    def __getattr__(self, name: str) -> Any:
        if self._closed.is_set():
            raise InvalidInput("client: expected an open one, this one was closed; open another", field="client")
        return getattr(self._part, name)


class OpenEmbedded(Protocol):
    """What the entry point of the worker gives: settings, overrides, and whether to show what the start is at."""

    def __call__(self, settings: ClientSettings, overrides: Mapping[str, Any], progress: bool | None) -> Parts:
        """Open everything in this process."""


def open_parts(settings: ClientSettings, overrides: Mapping[str, Any], progress: bool | None = None) -> Parts:
    """Connect to the servers, or run embedded, as the settings say. Servers are first spoken to when first needed.

    `overrides` may hold settings that only the worker knows; embedded mode, which is one, takes them. It also takes
    `progress`: show on stderr what the start is at, or not; None where somebody looks.
    """
    if settings.embedded_path is not None:
        return _embedded()(settings, overrides, progress)
    closing = ExitStack()
    client = connect(settings)
    closing.callback(client.close)
    ledger = RedisLedger(settings, client)
    dispatcher = CeleryDispatcher(settings)
    closing.callback(dispatcher.close)
    store = open_store(settings)
    closing.callback(store.close)
    queries = RememberedVectors(WorkerQueryEncoder(settings, client, ledger), settings.query_cache_bytes)
    clean_loggers()
    scorer = WorkerScores(settings, client, ledger)
    return Parts(settings, ledger, dispatcher, store, queries, RedisEvidence(ledger), scorer, closing=closing)


@functools.cache
def _embedded() -> OpenEmbedded:
    """The worker package's in-process engine. Found by entry point: the plugin never imports the worker.

    Looked for once, since that reads what every installed package says of itself.
    """
    with brought_by("worker", "embedded mode"):
        (entry,) = importlib.metadata.entry_points(group="gristmill.embedded")
        opened: OpenEmbedded = entry.load()
    return opened
