"""Looks at Redis and at Qdrant every few seconds, each on a thread of its own, and remembers the last minutes.

So a page is answered at once, whatever is away, one that has just been opened has a past, and a hundred open pages ask the
servers no more than one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

from gristmill import Client
from gristmill.ledger import HighWater, Ledger
from gristmill.ledger.base import Load
from gristmill.maintenance.troubles import Memory, Observed, Trouble, activity_between, judge
from gristmill.store.connection import require_server
from gristmill_schemas import CollectionSpec, DeadSummary, JobReport, ModelQueue
from gristmill_schemas.errors import GristmillError
from gristmill_schemas.redaction import redact

T = TypeVar("T")

#: Between two looks, seconds; heartbeats come as often. One that takes long, since much is there, is rarer.
LOOK_S: Final = 3.0
_DEAR_S, _SHARE = 1.0, 0.2
#: No answer for so long is said to be none.
_SILENT_S: Final = 4.0
#: Samples that are kept: a quarter of an hour.
_SAMPLES: Final = 300
#: Whole looks that are kept for judging, and how far apart they are, seconds.
_LOOKS, _APART_S = 60, 10.0
#: Over which rates are taken, seconds: some heartbeats, so that each engine was heard of twice.
_RATE_S: Final = 10.0
#: Jobs that are looked at, the newest.
_JOBS: Final = 100


@dataclass(frozen=True, slots=True)
class Broker:
    """What Redis said."""

    at: float
    memory: Memory | None
    load: Load
    workers: dict[str, dict[str, Any]]
    queues: tuple[ModelQueue, ...]
    jobs: tuple[JobReport, ...]
    dead: DeadSummary


@dataclass(frozen=True, slots=True)
class Store:
    """What Qdrant said."""

    version: str
    seconds: float
    collections: tuple[CollectionSpec, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One point of the charts."""

    #: Seconds since 1970.
    at: float
    tokens_per_s: float
    texts_per_s: float
    #: See `Activity`.
    shares: dict[str, float] = field(default_factory=dict)
    #: Documents that are waiting or in work, dead letters, and workers; None while Redis is away.
    waiting: int | None = None
    dead: int | None = None
    workers: int | None = None


class Seen(Generic[T]):
    """What one server said last, and whether it still answers."""

    def __init__(self, look: Callable[[], T]) -> None:
        self._look = look
        self._began: float | None = None
        self.said: T | None = None
        #: When it said so, by the monotonic clock.
        self.at: float | None = None
        self.failed = ""
        self.seconds = 0.0

    def look(self) -> None:
        """Look once."""
        self._began = began = time.monotonic()
        try:
            self.said, self.failed = self._look(), ""
            self.at = time.monotonic()
        except GristmillError as error:
            self.failed = str(error)
        except Exception as error:  # noqa: BLE001  # told on the page; the next look may do better
            self.failed = redact(f"{type(error).__name__}: {error}")
        self.seconds = time.monotonic() - began
        self._began = None

    @property
    def error(self) -> str:
        """Why it cannot be used now; empty where it answers, or was not asked yet."""
        if self.failed:
            return self.failed
        silent = time.monotonic() - self._began if self._began is not None else 0.0
        return f"No answer for {silent:.0f} s." if silent > _SILENT_S else ""


class Watch:
    """One per server. Start it, and close it."""

    def __init__(self, client: Client) -> None:
        """`client`: with short patience; whoever made it closes it."""
        self._client = client
        settings = client._parts.settings
        self._urls = redact(settings.redis_url), redact(settings.qdrant_url)
        self._marks = HighWater.of(settings)
        self.broker: Seen[Broker] = Seen(self._look_at_broker)
        self.store: Seen[Store] = Seen(self._look_at_store)
        self._looks: deque[Observed] = deque(maxlen=_LOOKS)
        self._recent: deque[Observed] = deque(maxlen=round(_RATE_S / LOOK_S) + 1)
        self._samples: deque[Sample] = deque(maxlen=_SAMPLES)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(look,), name=f"gristmill-live-{name}", daemon=True)
            for name, look in (("redis", self._see_broker), ("qdrant", self.store.look))
        ]

    def start(self) -> None:
        """Begin to look."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Look no more. A look that hangs ends by itself, later."""
        self._stop.set()

    def _run(self, look: Callable[[], None]) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            look()
            took = time.monotonic() - began
            self._stop.wait(max(LOOK_S - took, took / _SHARE if took > _DEAR_S else 0.0))

    def _see_broker(self) -> None:
        self.broker.look()
        now = self.observed()
        self._recent.append(now)
        self._samples.append(_sample(self._recent[0], now))
        if not self._looks or now.at - self._looks[-1].at >= _APART_S:
            self._looks.append(now)

    def samples(self, since: float = 0.0) -> list[Sample]:
        """Points of the charts that are newer than this, oldest first."""
        return [each for each in list(self._samples) if each.at > since]

    def troubles(self) -> list[Trouble]:
        """What is wrong now."""
        return judge(self.observed(), sorted([*self._looks, *self._recent], key=lambda each: each.at))

    def observed(self) -> Observed:
        """The last looks at both servers, as they are judged."""
        said, store = self.broker.said, self.store
        look = Observed(
            at=time.time() if said is None or self.broker.error else said.at,
            redis_url=self._urls[0],
            qdrant_url=self._urls[1],
            redis_error=self.broker.error,
            qdrant_error=store.error,
            qdrant_s=store.said.seconds if store.said else 0.0,
            marks=self._marks,
        )
        if said is None:
            return look
        return replace(
            look,
            memory=said.memory,
            load=said.load,
            workers=said.workers,
            waiting=said.queues,
            dead=said.dead,
        )

    def _look_at_broker(self) -> Broker:
        ledger = self._client._parts.ledger
        queues = self._client.queue().models
        return Broker(
            at=ledger.now(),
            memory=_memory(ledger),
            load=ledger.load(),
            workers=ledger.workers(),
            queues=queues,
            jobs=(*(newest := self._client.jobs.list(_JOBS)), *_older(ledger, queues, newest)),
            dead=self._client.dead.summary(),
        )

    def _look_at_store(self) -> Store:
        began = time.monotonic()
        version = require_server(self._client._parts.store)
        seconds = time.monotonic() - began
        return Store(str(version), seconds, tuple(self._client.collections.list()))


def _memory(ledger: Any) -> Memory | None:
    """Redis's memory; None where its user may not ask."""
    import redis

    try:
        info = ledger._redis.info()
    except redis.ResponseError:
        return None
    limit, policy = int(info.get("maxmemory", 0)), str(info.get("maxmemory_policy", "noeviction"))
    return Memory(int(info.get("used_memory", 0)), limit, policy)


def _older(ledger: Ledger, queues: Iterable[ModelQueue], newest: Iterable[JobReport]) -> Iterator[JobReport]:
    """Jobs with work that waits, and many newer ones after them."""
    known = {each.job_id for each in newest}
    waiting = {each.job_id for queue in queues for each in queue.jobs} - known
    for job_id in sorted(waiting)[:_JOBS]:
        if (report := ledger.report(job_id)) is not None:
            yield report


def _sample(then: Observed, now: Observed) -> Sample:
    if now.redis_error or now.load is None:
        return Sample(now.at, 0.0, 0.0)
    done = activity_between(then.workers, now.workers)
    return Sample(
        at=now.at,
        tokens_per_s=round(done.tokens_per_s, 1),
        texts_per_s=round(done.texts_per_s, 2),
        shares={cause: round(share, 4) for cause, share in done.shares.items()},
        waiting=now.load.documents,
        dead=now.load.dead_letters,
        workers=len(now.workers),
    )
