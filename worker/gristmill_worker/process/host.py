"""The host: what one process has once, whatever it serves. Identity, leases, patience, gate, duties, and its engines.

A worker feeds it from Celery, embedded mode from threads of the application; what lies in between is the same.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from qdrant_client import QdrantClient

from gristmill.ingest.broker import queue_name
from gristmill.ledger import Ledger
from gristmill.ledger.clock import LedgerClock
from gristmill.store.collections import Collections
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.encoder import Encoder
from gristmill_worker.pipeline.commons import Commons
from gristmill_worker.pipeline.engine import Engine
from gristmill_worker.pipeline.gate import Gate
from gristmill_worker.pipeline.leases import Leases
from gristmill_worker.process.duties import Duties, DutyList
from gristmill_worker.process.queries.counts import QueryCounts
from gristmill_worker.reranker import Reranker
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.vital_threads import Died, end_process
from gristmill_worker.waiting.missing_collections import MissingCollections
from gristmill_worker.waiting.notices import Notices
from gristmill_worker.waiting.patience import Patience

#: How often a worker says that it lives and what it serves, which a Redis that has lost everything learns again; and how
#: long it is believed to live.
_HEARTBEAT_S, _HEARTBEAT_TTL_S = 3.0, 10.0
#: How often the size of the dead letters is looked at.
_LETTERS_S = 2.0


class Host:
    """One per process. Add the engines, then start."""

    def __init__(
        self,
        settings: WorkerSettings,
        ledger: Ledger,
        store: QdrantClient,
        collections: Collections,
        publish: Callable[[str, int], None],
        died: Died = end_process,
    ) -> None:
        """Nothing runs yet.

        Args:
            settings: of this process.
            ledger: what is owed.
            store: where points go.
            collections: their descriptions.
            publish: tells the workers of a model that so many more parcels wait.
            died: told when a thread dies that the process cannot do without.
        """
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        self.ledger = ledger
        self.collections = collections
        self.clock = LedgerClock(ledger.now)
        self.draining = threading.Event()
        self.notices = Notices()
        self.patience = Patience(self.draining, self.notices)
        self.leases = Leases(ledger, settings.lease_s, died)
        self.engines: dict[str, Engine] = {}
        #: By model.
        self.queries: dict[str, QueryCounts] = {}
        self.rerankers: dict[str, Reranker] = {}
        self._commons = Commons(
            ledger=ledger,
            clock=self.clock,
            store=store,
            collections=collections,
            leases=self.leases,
            patience=self.patience,
            notices=self.notices,
            missing=MissingCollections(collections, ledger, self.notices),
            gate=Gate(),
            publish=publish,
            max_attempts=settings.max_attempts,
            server_wait_s=settings.server_wait_s,
        )
        self._died = died
        self._started = 0.0
        self._duties: list[Duties] = []
        self._threads = settings.threads
        #: So many dead letters are kept that nothing more should be tried.
        self._letters_full = False
        self._by_queue: dict[str, Engine] = {}

    def add(self, encoder: Encoder) -> Engine:
        """Serve one more model. Raises InvalidInput where it is served already."""
        info = encoder.info
        if (there := self.engines.get(info.digest)) is not None:
            raise InvalidInput(
                f"model: {info.model!r} and {there.encoder.info.model!r} are the same model; name each once"
            )
        engine = Engine(encoder, self._commons)
        self.engines[engine.digest] = self._by_queue[queue_name(engine.digest)] = engine
        self.queries[engine.digest] = QueryCounts()
        return engine

    def add_reranker(self, reranker: Reranker) -> None:
        """Serve a reranker beside the models."""
        self.rerankers[reranker.info.digest] = reranker
        self.queries[reranker.info.digest] = QueryCounts()

    def start(self, watches: DutyList | None = None, chores: DutyList | None = None) -> None:
        """Announce the models, and begin to keep leases and to perform duties.

        Args:
            watches: look at this process only; they wait for nobody.
            chores: speak to servers.
        """
        self._announce()
        self._started = self.clock.now()
        self.leases.start()
        own: DutyList = {
            "heartbeat": (_HEARTBEAT_S, self._beat),
            "dead letters": (_LETTERS_S, self._look_at_letters),
        }
        for name, duties in (("watches", watches), ("heartbeat", own), ("chores", chores)):
            if duties:
                self._duties.append(Duties(name, duties, self._died))
                self._duties[-1].start()

    def accepts(self, queue: str) -> bool:
        """Whether a message may be taken from this queue now: its engine has a thread to spare and nothing against it."""
        engine = self._by_queue.get(queue)
        return engine is not None and engine.busy < self._threads and engine.willing and not self._letters_full

    def _announce(self) -> None:
        for _, each in self._served():
            self.ledger.announce(each.info)

    def _look_at_letters(self) -> None:
        self._letters_full = self.ledger.dead_full()
        if self._letters_full:
            self.notices.put(
                "dead letters",
                "the dead letters have reached their mark, so no work is taken: see `gristmill dead summary`, replay or "
                "drop some, or raise GRISTMILL_DEAD_MAX_BYTES",
            )
        else:
            self.notices.drop("dead letters")

    def _beat(self) -> None:
        self._announce()
        self.ledger.heartbeat(self.worker_id, self.status(), ttl_s=_HEARTBEAT_TTL_S)

    def status(self) -> dict[str, Any]:
        """What this worker is and does, for heartbeats and `gristmill doctor`."""
        return {
            "started_at": self._started,
            "draining": self.draining.is_set(),
            "parcels": self.leases.held,
            "waiting_for": next(iter(self.notices.all()), None),
            "notices": self.notices.all(),
            "engines": [{**each.status(), "queries": self.queries[digest].all()} for digest, each in self._served()],
        }

    def _served(self) -> Iterator[tuple[str, Engine | Reranker]]:
        yield from self.engines.items()
        yield from self.rerankers.items()

    def drain(self) -> None:
        """Stop waiting for servers that are away; what runs is finished."""
        self.draining.set()

    def close(self) -> None:
        """Stop the models and the duties; whatever still waited goes back to the ledger."""
        self.drain()
        for engine in self.engines.values():
            engine.close()
        for reranker in self.rerankers.values():
            reranker.close()
        for duties in self._duties:
            duties.close()
        self.leases.close()
