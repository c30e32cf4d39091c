"""The host: what one process has once, whatever it serves. Identity, leases, patience, gate, duties, and its engines.

A worker feeds it from Celery, embedded mode from threads of the application; what lies in between is the same.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qdrant_client import QdrantClient

from gristmill import __version__
from gristmill.ingest.broker import queue_name
from gristmill.ledger import Ledger
from gristmill.ledger.clock import LedgerClock
from gristmill.models import digest_of, engines
from gristmill.store.collections import Collections
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.redaction import redact
from gristmill_worker.encoder import Encoder
from gristmill_worker.metering.sections import Section
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
from gristmill_worker.waiting.notices import Notices, Waits
from gristmill_worker.waiting.patience import Patience
from gristmill_worker.webhooks.sender import PERIOD_S as WEBHOOKS_S
from gristmill_worker.webhooks.sender import WebhookSender

#: How often a worker says that it lives and what it serves, which a Redis that has lost everything learns again; and how
#: long it is believed to live.
_HEARTBEAT_S, _HEARTBEAT_TTL_S = 3.0, 10.0
#: Watches wait for nobody: later than this, something holds them up for good, seconds.
_LATE_S = 30.0
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
        #: What whoever shows metrics shows of this process.
        self.figures: list[Section] = []
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
            workers=self.workers,
            max_attempts=settings.max_attempts,
            server_wait_s=settings.server_wait_s,
        )
        self.webhooks = WebhookSender(settings, ledger, self.worker_id, self.notices)
        self._died = died
        #: Settings that say how long something may take, for whoever has to wait for it.
        self._told = {"encode_timeout_s": settings.encode_timeout_s, "lease_s": settings.lease_s}
        #: Names of the models that are being loaded.
        self._loading: tuple[str, ...] = ()
        #: What this process is at, and since when.
        self._state: tuple[str, float] = ("", 0.0)
        #: Of each model, those that live and take work, as of the last heartbeat.
        self._workers: Counter[str] = Counter()
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
        self.queries[engine.digest] = QueryCounts()
        self.engines[engine.digest] = self._by_queue[queue_name(engine.digest)] = engine
        return engine

    def add_reranker(self, reranker: Reranker) -> None:
        """Serve a reranker beside the models."""
        self.queries[reranker.info.digest] = QueryCounts()
        self.rerankers[reranker.info.digest] = reranker

    def load(self, models: Sequence[str]) -> None:
        """Say from now on, until `start`, that this process is loading these models, and will serve them."""
        self._loading = tuple(models)
        self._keep("loading", {"heartbeat": (_HEARTBEAT_S, self.beat)})

    def start(self, watches: DutyList | None = None, chores: DutyList | None = None) -> None:
        """Announce the models, and begin to keep leases and to perform duties.

        Args:
            watches: look at this process only; they wait for nobody.
            chores: speak to servers.
        """
        for loading in self._duties:
            loading.close()
        self._loading = ()
        self._started = self.clock.now()
        # At once, and not by its duty a moment later: whoever has waited for this process may ask what it does.
        self.beat()
        self.leases.start()
        own: DutyList = {
            "heartbeat": (_HEARTBEAT_S, self.beat),
            "dead letters": (_LETTERS_S, self._look_at_letters),
            "webhooks": (WEBHOOKS_S, self.webhooks),
        }
        for name, duties in (("watches", watches), ("heartbeat", own), ("chores", chores)):
            if duties:
                self._keep(name, duties, prompt=duties is watches)

    def _keep(self, name: str, duties: DutyList, *, prompt: bool = False) -> None:
        self._duties.append(Duties(name, duties, self._died, prompt=prompt))
        self._duties[-1].start()

    def workers(self, model_digest: str) -> int:
        """How many living workers serve a model, this one included, as of the last heartbeat."""
        return self._workers[model_digest]

    def accepts(self, queue: str) -> bool:
        """Whether a message may be taken from this queue now: its engine has a thread and room for it, nothing against it.

        One that has its share of what waits leaves the messages to other workers.
        """
        engine = self._by_queue.get(queue)
        if engine is None or engine.busy >= self._threads or self._letters_full:
            return False
        return engine.willing and engine.has_room and not engine.has_its_share

    @property
    def willing(self) -> bool:
        """Whether any model would take work, were a thread to spare."""
        return not self._letters_full and any(engine.willing for engine in self.engines.values())

    def ails(self) -> str:
        """What of this process does not move any more; empty as long as it is well. Servers do not matter."""
        return "; ".join(
            f"{duties.name} have not been kept for {duties.late_s():.0f} s"
            for duties in self._duties
            if duties.prompt and duties.late_s() > _LATE_S
        )

    def _announce(self) -> None:
        for _, each in self._served():
            self.ledger.announce(each.info)

    def _look_at_letters(self) -> None:
        self._letters_full = self.ledger.dead_full()
        if self._letters_full:
            self.notices.put(
                "dead letters",
                Waits.DEAD_LETTERS,
                "the dead letters have reached their mark, so no work is taken: see `gristmill dead summary`, replay or "
                "drop some, or raise GRISTMILL_DEAD_MAX_BYTES",
            )
        else:
            self.notices.drop("dead letters")

    def beat(self) -> None:
        """Say that this process lives, and what it is at."""
        if not self._loading:
            self._announce()
        self.ledger.heartbeat(self.worker_id, self.status(), ttl_s=_HEARTBEAT_TTL_S)
        self._workers = Counter(
            digest for each in engines(self.ledger, staying=True) if (digest := each.get("model_digest"))
        )

    @property
    def state(self) -> str:
        """What this process is at: `loading`, `ready`, `draining`, or `waiting` for what it cannot work without."""
        if self.draining.is_set():
            return "draining"
        if self._loading:
            return "loading"
        return "ready" if self.willing else "waiting"

    def _since(self, state: str) -> float:
        if state != self._state[0]:
            self._state = (state, self.clock.now())
        return self._state[1]

    def status(self) -> dict[str, Any]:
        """What this worker is and does, for heartbeats and `gristmill doctor`."""
        state = self.state
        return {
            "version": __version__,
            "state": state,
            "since": self._since(state),
            "started_at": self._started,
            "draining": self.draining.is_set(),
            "parcels": self.leases.held,
            "waiting_for": next(iter(self.notices.all()), None),
            "notices": self.notices.all(),
            "waits": sorted(self.notices.waits()),
            "settings": self._told,
            "loading": [
                {"model": redact(name), "model_digest": digest_of(self.ledger, name)} for name in self._loading
            ],
            "webhooks": self.webhooks.status(),
            "engines": [{**each.status(), "queries": self.queries[digest].all()} for digest, each in self._served()],
        }

    def _served(self) -> Iterator[tuple[str, Engine | Reranker]]:
        if self._loading:
            return
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
        self.webhooks.close()
        self.leases.close()
