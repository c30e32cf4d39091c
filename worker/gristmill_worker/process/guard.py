"""The guard before the queues: what is not exactly our producer's message is parked, and never reaches Celery.

It stands before Celery and its serializers see a byte. Celery's own hooks for unknown tasks, undecodable bodies and
disallowed content come too late for some of it: text that is no JSON raises inside kombu's socket handler and ends
the worker, and so does a message without properties. What passes says that there is work, and that is all that is
taken from it: Celery gets a message of the guard's own (`envelope`).

Messages in hand are noted nowhere. Kombu would write each into a hash, to hand it out again an hour after its
holder's death, or whatever else it finds there. Here the reconciler makes up for what is lost, so what ends a process
never comes back.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from queue import Empty
from typing import Any, cast

import redis
from kombu.transport.redis import Transport

from gristmill.ledger.clock import LedgerClock
from gristmill.ledger.reading import MAX_REFUSED, Evidence
from gristmill_schemas import RefusedMessage
from gristmill_schemas.errors import GristmillError
from gristmill_worker.process.envelope import Envelope
from gristmill_worker.process.logs.refusals import RefusalLog

log = logging.getLogger(__name__)

#: Characters of a refused message and of a reason that are kept.
_KEPT_CHARS, _REASON_CHARS = 2000, 500
#: How soon a worker that takes nothing now looks again whether it would: between two, its device must not run dry.
_LOOK_S = 0.1
#: How long a queue that cannot be read is left alone.
_REST_S = 5.0


class Parking:
    """Refused messages on their way into the ledger's list: gathered, so that thousands cost a few round trips."""

    def __init__(self, evidence: Evidence, clock: LedgerClock) -> None:
        self._evidence = evidence
        self._clock = clock
        self._lock = threading.Lock()
        # No more than the list keeps; the newest stay, as there.
        self._waiting: deque[RefusedMessage] = deque(maxlen=MAX_REFUSED)
        self._refusals = RefusalLog("task queue")
        self._unparked = RefusalLog("list of refused messages")

    def park(self, reason: str, queue: str, raw: str) -> None:
        """Keep a message; it is in the list after the next `flush`."""
        self._refusals.add(f"{queue}: {reason}")
        kept = RefusedMessage(
            reason=reason[:_REASON_CHARS].encode(errors="backslashreplace").decode(),
            queue=queue,
            message=_printable(raw),
            refused_at=self._clock.now(),
        )
        with self._lock:
            self._waiting.append(kept)

    def flush(self) -> None:
        """Put what was gathered into the list; where Redis does not take it, the log has to do."""
        self._refusals.tell()
        with self._lock:
            gathered = list(self._waiting)
            self._waiting.clear()
        try:
            if gathered:
                self._evidence.refuse(*gathered)
        except GristmillError as away:
            self._unparked.add(f"{away}: {gathered[-1].message[:200]}")


def _printable(raw: str) -> str:
    return raw[:_KEPT_CHARS].encode("unicode_escape").decode("ascii")[: 2 * _KEPT_CHARS]


class Guard:
    """What stands before the queues of one worker's models."""

    def __init__(self, digests: Iterable[str], accepts: Callable[[str], bool], parking: Parking) -> None:
        """`accepts`: whether a message may be taken from a queue now. Asked before every read; what is not taken stays in
        the queue, for anybody.
        """
        self._envelopes: Mapping[str, Envelope] = {each.queue: each for each in map(Envelope, digests)}
        self._accepts = accepts
        self._parking = parking
        self._unread = RefusalLog("task queue")
        self._rests: dict[str, float] = {}
        #: Messages taken, whatever became of them.
        self.taken = 0
        #: When work was last looked for, by the monotonic clock.
        self.looked_at = time.monotonic()

    def willing(self, queue: str) -> bool:
        """Whether a message may be taken from this queue now."""
        return self._accepts(queue) and time.monotonic() >= self._rests.get(queue, 0.0)

    def rest(self, queues: Iterable[str], error: Exception) -> None:
        """Leave queues alone for a while: the server does not let us read them."""
        self._unread.add(f"{', '.join(sorted(queues))}: expected a list that may be read, got {error}")
        self._rests.update(dict.fromkeys(queues, time.monotonic() + _REST_S))

    def admit(self, message: object, queue: str) -> dict[str, Any] | None:
        """What Celery gets for a message; None where it is refused, and parked."""
        self.taken += 1
        envelope = self._envelopes[queue]
        if (reason := envelope.refusal(message)) is None:
            return envelope.fresh()
        self._parking.park(reason, queue, json.dumps(message, ensure_ascii=False, default=repr))
        return None

    def refuse(self, error: Exception, queues: Iterable[str]) -> None:
        """Park what could not even be read: it is popped, and only its parser's error may still hold it."""
        self.taken += 1
        raw = getattr(error, "doc", "") or getattr(error, "object", b"")
        text = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw)
        self._parking.park(
            f"message: expected JSON, got {type(error).__name__}: {error!s:.200}", ", ".join(queues), text
        )

    def fresh(self, queue: str) -> dict[str, Any]:
        """A message that says that there is work for this queue's model."""
        return self._envelopes[queue].fresh()

    def ended_by(self, message: Mapping[str, Any], queue: str, error: Exception) -> None:
        """Park a message that Celery could not take, before this process ends of it."""
        said = (
            f"message: expected one that Celery takes, got {type(error).__name__}: {error!s:.200}; it ended its worker"
        )
        self._parking.park(said, queue, json.dumps(message, default=repr))
        self._parking.flush()


def _nothing() -> None:
    return


def guarded_transport(guard: Guard, transport: type[Transport] = Transport) -> type[Transport]:
    """Kombu's Redis transport, or what is made of it, with the guard before it: for the setting `broker_transport`."""
    channel: Any = transport.Channel

    class GuardedChannel(channel):  # type: ignore[misc]  # a class that is an argument
        ack_emulation = False

        def _size(self, queue: str) -> int:
            # Asked at the start, of which nothing must end a worker: when it is to be read, what lies there is told.
            try:
                return int(super()._size(queue))
            except redis.ResponseError as error:
                guard.rest([queue], error)
                return 0

        def _brpop_start(self, timeout: float | None = None) -> None:
            guard.looked_at = time.monotonic()
            willing = {queue for queue in self.active_queues if guard.willing(queue)}
            if willing != set(self._queue_cycle.items):
                self._queue_cycle.update(willing)
            if willing:
                super()._brpop_start(timeout)

        def _brpop_read(self, **options: Any) -> bool:
            self.connection.handing_over = False
            try:
                return bool(super()._brpop_read(**options))
            except redis.ResponseError as error:
                guard.rest(self._unreadable(), error)
                return True
            except (Empty, OSError, redis.RedisError):
                raise
            except Exception as error:
                if self.connection.handing_over:
                    raise
                guard.refuse(error, sorted(self.active_queues))
                return True

        def _unreadable(self) -> list[str]:
            """The queues under whose names something else lies; all of them where that is not why they cannot be read."""
            queues = sorted(self.active_queues)
            others: list[str] = []
            with suppress(redis.RedisError), self.conn_or_acquire() as client:
                others = [queue for queue in queues if any(self._lies(client, key) for key in self._keys(queue))]
            return others or queues

        def _keys(self, queue: str) -> list[str]:
            return [self._q_for_pri(queue, step) for step in self.priority_steps]

        def _lies(self, client: Any, key: str) -> bool:
            # Kombu puts its prefix before the keys of the commands that it uses itself, and this is none of them.
            return cast("bytes", client.type(self.global_keyprefix + key)) not in (b"list", b"none")

        def _restore(self, message: Any, leftmost: bool = False) -> None:
            try:
                queue = message.delivery_info["routing_key"]
                self._put(queue, guard.fresh(queue))
            except redis.RedisError as error:
                # It says nothing that the ledger does not know: another will be sent.
                log.warning("a message is let go instead of put back, since Redis cannot be used now: %s", error)

    behind: Any = transport

    class GuardedTransport(behind):  # type: ignore[misc]  # a class that is an argument
        Channel = GuardedChannel
        #: Wakes the loop; one for all connections, one after the other.
        looks: Any = None
        #: A message has passed the guard: what is raised from here on is not about reading it.
        handing_over = False

        def register_with_event_loop(self, connection: Any, loop: Any) -> None:
            super().register_with_event_loop(connection, loop)
            # It would sleep for up to a second: nothing else tells it that there is room again.
            if GuardedTransport.looks is not None:
                GuardedTransport.looks.cancel()
            GuardedTransport.looks = loop.call_repeatedly(_LOOK_S, _nothing)

        def _deliver(self, message: Any, queue: str) -> None:
            if (fresh := guard.admit(message, queue)) is None:
                return
            self.handing_over = True
            try:
                super()._deliver(fresh, queue)
            except (OSError, redis.RedisError):
                raise
            except Exception as error:
                guard.ended_by(message, queue, error)
                raise

    return GuardedTransport
