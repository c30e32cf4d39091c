"""Several workers on one store and one ledger, run stage by stage in an order that the test chooses, and killed at will.

Each actor is a thread inside the real pipeline. It stops before every call to store or ledger and waits for its turn, so
exactly one actor moves at a time and an order is a list of numbers. A killed actor dies with its claim in hand, before
or right after a call took effect; another is told that there is work, as the reconciler would.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

from qdrant_client import QdrantClient

from gristmill.ledger import ALONE, Claim, HighWater, Holding, Ledger, MemoryLedger
from gristmill.ledger.clock import LedgerClock
from gristmill.store.collections import Collections
from gristmill.store.connection import open_local_store
from gristmill_schemas import (
    Chunking,
    CollectionSpec,
    Deletion,
    Document,
    JobReport,
    LongTexts,
    Parcel,
    PointSystem,
)
from gristmill_schemas.validation import SYSTEM_KEY
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.idle_clock import IdleClock
from gristmill_worker.encoder.base import Encoder
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.pipeline.commons import Commons
from gristmill_worker.pipeline.gate import Gate
from gristmill_worker.pipeline.handler import Handler
from gristmill_worker.pipeline.late_writes import LateWrites
from gristmill_worker.pipeline.leases import Leases
from gristmill_worker.pipeline.pipeline import Pipeline
from gristmill_worker.pipeline.prepare import Preparer
from gristmill_worker.pipeline.sink import Sink
from gristmill_worker.waiting.fuse import Fuse
from gristmill_worker.waiting.in_hand import InHand
from gristmill_worker.waiting.missing_collections import MissingCollections
from gristmill_worker.waiting.notices import Notices
from gristmill_worker.waiting.patience import Patience

#: Words per chunk of the test's collection.
CHUNK_WORDS = 16
ROOMY = HighWater(documents=10_000, bytes=100_000_000)


class Order(Enum):
    """What an actor is told at its next call."""

    GO = "go"
    DIE_BEFORE = "die before"
    DIE_AFTER = "die after"


class Killed(BaseException):
    """Not an `Exception`, so that the code under test cannot mend it: as SIGKILL."""


@dataclass(eq=False)
class Actor:
    """One worker on the one parcel that it claims."""

    claim: Claim | None = None
    #: Its claim has been handed to somebody else while it was still alive.
    robbed: bool = False
    dead: bool = False
    finished: bool = False
    error: BaseException | None = None
    #: What it does at its next turn.
    next_call: str = ""
    _at_call: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _order: Order = Order.GO

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for the turn, then call; runs in the actor's thread."""
        self.next_call = function.__name__
        self._at_call.release()
        self._turn.acquire()
        if self._order is Order.DIE_BEFORE:
            raise Killed
        answer = function(*args, **kwargs)
        if self._order is Order.DIE_AFTER:
            raise Killed
        return answer

    def start(self, work: Callable[[], object]) -> None:
        """Run up to the first call."""

        def run() -> None:
            try:
                work()
            except Killed:
                self.dead = True
            except BaseException as error:
                self.error = error
            self.finished = True
            self._at_call.release()

        threading.Thread(target=run, daemon=True).start()
        self._at_call.acquire()

    def step(self, order: Order = Order.GO) -> None:
        """Make one call, and run up to the next."""
        self._order = order
        self._turn.release()
        self._at_call.acquire()

    def stop_before(self, name: str, times: int = 1) -> Actor:
        """Go on until the call of this name comes up for the n-th time."""
        while not self.finished:
            times -= self.next_call == name
            if times == 0:
                break
            self.step()
        return self

    def finish(self) -> Actor:
        """Go on to the end."""
        while not self.finished:
            self.step()
        if self.error is not None:
            raise self.error
        return self


class _Staged:
    """A store or ledger whose every method waits for the actor's turn."""

    def __init__(self, behind: object, actor: Actor) -> None:
        self._behind = behind
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._behind, name)
        return lambda *args, **kwargs: self._actor.call(method, *args, **kwargs)


class _StagedLedger(_Staged):
    """Remembers what the actor was given, also where it dies before it hears of it."""

    def claim(self, model_digest: str, lease_s: float, holding: Holding = ALONE) -> Claim | None:
        def claim() -> Claim | None:
            self._actor.claim = cast("Ledger", self._behind).claim(model_digest, lease_s, holding)
            return self._actor.claim

        return cast("Claim | None", self._actor.call(claim))


class Stage:
    """One store, one ledger, one collection; actors are added by `play`."""

    def __init__(
        self,
        store: QdrantClient | None = None,
        *,
        name: str = "c",
        encoder: Encoder | None = None,
        long_texts: LongTexts = LongTexts.CHUNK,
        max_attempts: int = 1000,
    ) -> None:
        """In Qdrant's local mode, unless a server's client is given; then `name` should be the test's own."""
        self.ledger = MemoryLedger()
        self.store = store or open_local_store(":memory:")
        self.encoder = encoder or HashEncoder(4)
        self.collections = Collections(
            self.store,
            local=store is None,
            created=lambda spec: self.ledger.note_collection(spec.physical, spec.key),
            deleted=lambda spec: self.ledger.note_deletion(spec.physical),
        )
        self.name = name
        self.max_attempts = max_attempts
        chunking = Chunking(size=CHUNK_WORDS, overlap=0, long_texts=long_texts)
        self.spec = self.collections.create(
            CollectionSpec(name=name, space=self.encoder.info.space(), chunking=chunking)
        )
        self._batcher = Batcher(self.encoder)
        self.jobs: list[str] = []
        #: Moments long ago, in order, so that what lapsed first is claimed first and a run can be repeated.
        self._past = itertools.count()

    def close(self) -> None:
        self._batcher.close()
        self.store.close()

    def pipeline(
        self,
        store: QdrantClient | None = None,
        ledger: Ledger | None = None,
        draining: threading.Event | None = None,
        server_wait_s: float = 0.0,
    ) -> Handler:
        """A worker's way with a parcel, its gate and leases included; after `server_wait_s` it gives the parcel back."""
        notices, idle = Notices(), IdleClock()
        patience, ledger = Patience(draining or threading.Event(), notices), ledger or self.ledger
        commons = Commons(
            ledger=ledger,
            clock=LedgerClock(ledger.now),
            store=store or self.store,
            collections=self.collections,
            leases=Leases(ledger, 3600),
            patience=patience,
            notices=notices,
            missing=MissingCollections(self.collections, ledger, notices),
            gate=Gate(),
            publish=lambda model_digest, count: None,
            workers=lambda model_digest: 1,
            max_attempts=self.max_attempts,
            server_wait_s=server_wait_s,
        )
        sink = Sink(commons.store, patience, idle, commons.server_wait_s)
        preparer = Preparer(
            self.encoder,
            self._batcher,
            patience,
            idle,
            commons.clock,
            commons.server_wait_s,
            commons.leases.encoded,
        )
        pipeline = Pipeline(commons, preparer, sink)
        return Handler(
            self.encoder.info.digest, commons, pipeline, Fuse(notices, trial_s=0.0), InHand(lambda: None, lambda: 1)
        )

    def deliver(self, *items: Document | Deletion) -> JobReport:
        """One job of one parcel, worked on until nothing of it is left; returns its report."""
        self.accept(items)
        pipeline = self.pipeline()
        while self.ledger.backlog(self.encoder.info.digest):
            pipeline.process()
        return self.reports()[-1]

    def work_off(self, handler: Handler | None = None) -> None:
        """Work until nothing waits, not even for its time."""
        handler = handler or self.pipeline()
        while self.ledger.load().parcels:
            self.end_delays()
            handler.process()

    def end_delays(self) -> None:
        """Whatever was given back for a while, and whatever rests, is due now."""
        for lines in self.ledger._lines.values():
            lines._rests.clear()
            lines._later = dict.fromkeys(lines._later, 0.0)
            for job_id, line in lines._waiting.items():
                lines._waiting[job_id] = sorted((0.0, each) for _, each in line)

    @staticmethod
    def notices(handler: Handler) -> list[str]:
        """What a worker says that it waits for."""
        return handler._missing._notices.all()

    def accept(self, items: Sequence[Document | Deletion]) -> None:
        """Take one parcel of a job of its own."""
        ticket = self.ledger.open_job(self.name)
        parcel = Parcel(
            id=f"{ticket.job_id}.0",
            job_id=ticket.job_id,
            collection=self.name,
            collection_key=self.spec.key,
            model_digest=self.encoder.info.digest,
            documents=tuple(item for item in items if isinstance(item, Document)),
            deletions=tuple(item for item in items if isinstance(item, Deletion)),
            version=ticket.version,
            enqueued_at=ticket.opened_at,
        )
        self.ledger.accept(parcel, 0, ROOMY)
        self.ledger.close_job(ticket.job_id)
        self.jobs.append(ticket.job_id)

    def enter(self) -> Actor:
        """A worker of its own is told that there is work, and stops before its first call."""
        actor = Actor()
        store = cast("QdrantClient", _Staged(self.store, actor))
        ledger = cast("Ledger", _StagedLedger(self.ledger, actor))
        actor.start(self.pipeline(store, ledger).process)
        return actor

    def take(self, *items: Document | Deletion) -> Actor:
        """A job of one parcel, and a worker for it."""
        self.accept(items)
        return self.enter()

    def deliver_again(self, actor: Actor) -> Actor:
        """The lease runs out, and another worker is told that there is work."""
        kept = self.ledger._parcels.get(actor.claim.parcel.id) if actor.claim else None
        if kept is not None:
            kept.lease_end = next(self._past)
        return self.enter()

    def look_after(self) -> None:
        """What the duty of any living worker does every few seconds."""
        LateWrites(self.ledger, self.store, self.collections, "w")()

    def reports(self) -> list[JobReport]:
        return [report for job in self.jobs if (report := self.ledger.report(job)) is not None]

    def points(self) -> dict[tuple[str, int], tuple[PointSystem, str]]:
        """Everything in the collection, by document and chunk."""
        return {(system.id, system.chunk): (system, text) for system, text in self.store_points()}

    def store_points(self) -> list[tuple[PointSystem, str]]:
        """Everything in the collection, of whichever tenant."""
        found, _ = self.store.scroll(self.name, limit=10_000, with_payload=True)
        payloads = [point.payload or {} for point in found]
        return [(PointSystem.read(payload[SYSTEM_KEY]), payload["text"]) for payload in payloads]


def play(stage: Stage, actors: list[Actor], choose: Callable[[int], int], kills: int, thefts: int) -> None:
    """Move actors in the order of `choose(n)` (one of n) until all parcels are finished, killing and robbing meanwhile.

    A robbed actor may die between its write and its clean-up, with nobody left who works on its parcel: `look_after` then
    finds what it wrote, as the duty of a living worker would.
    """
    actors = list(actors)
    while actors:
        actor = actors[choose(len(actors))]
        order = Order.GO
        if kills and choose(8) == 0:
            order = Order.DIE_BEFORE if choose(2) else Order.DIE_AFTER
            kills -= 1
        elif thefts and not actor.robbed and choose(12) == 0:
            thefts -= 1
            actor.robbed = True
            actors.append(stage.deliver_again(actor))
        actor.step(order)
        if actor.finished:
            actors.remove(actor)
            if actor.error is not None:
                raise actor.error
            if actor.dead:
                actors.append(stage.deliver_again(actor))
