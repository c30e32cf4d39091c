"""Handing work over: a stream of documents or deletions becomes parcels in the ledger, and messages in the queue.

Order matters: first the ledger, then the broker. What the ledger has accepted is owed; a message that gets lost on the
way is replaced by the reconciler.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import logging
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from gristmill.ingest.announcing import Announcer
from gristmill.ingest.broker import Dispatcher, messages_for
from gristmill.ingest.packing import group
from gristmill.ledger import AboveLimit, Accepted, HighWater, Ledger, Ticket
from gristmill_schemas import CollectionSpec, Deletion, Document, Parcel
from gristmill_schemas.errors import BrokerUnavailable, QueueFull

log = logging.getLogger(__name__)

Item = TypeVar("Item", Document, Deletion)

_FULL_LOOK_S = 0.25
#: After so long at a full queue it is said what for: whoever feeds more than workers encode waits for moments, all the time.
_FULL_SAID_S = 5.0


class Producer:
    """Feeds one ledger and one broker."""

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, high_water: HighWater) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._high_water = high_water
        #: Workers could not be told of the last parcel, and that has been said.
        self._unheard = False

    def feed(
        self,
        spec: CollectionSpec,
        ticket: Ticket,
        items: Iterable[Item],
        *,
        block: bool = True,
        timeout_s: float | None = None,
        progress: Callable[[int], None] | None = None,
        accepted: Callable[[Sequence[Item]], None] | None = None,
        high_water: HighWater | None = None,
    ) -> int:
        """Hand over every item of the stream; returns how many were accepted.

        Args:
            spec: the collection, as Qdrant describes it now.
            ticket: the open job they belong to.
            items: consumed as the queue takes them; never held whole.
            block: wait while the queue is above its high-water mark, or a tenant at its limit, instead of raising; what for
                is logged, once.
            timeout_s: longest wait at a full queue for any one parcel.
            progress: called with the number accepted so far, also while waiting at a full queue.
            accepted: called with the items of each parcel once the ledger owes them.
            high_water: marks instead of the producer's own.

        Raises:
            QueueFull: the queue is full, or a tenant has as much in it as it may, and `block` is off, or `timeout_s` is
                over. What was accepted stays accepted.
            BrokerUnavailable: Redis is away. What was accepted stays accepted.
        """
        self._ledger.note_collection(spec.physical, spec.key)
        count = 0
        marks = high_water or self._high_water
        room = _Room(block, timeout_s)
        with Announcer(functools.partial(self._publish, spec.space.model_digest)) as announcer:
            sequence = 0
            batches = _Batches(group(items))
            for batch in batches:
                parcel = self.parcel(spec, ticket, sequence, batch)
                waiting = functools.partial(progress, count) if progress else _nothing
                messages = messages_for(sequence + 1) - messages_for(sequence)
                accept = functools.partial(self._ledger.accept, parcel, sequence, marks, messages)
                if not self._accept(accept, batches.cut, parcel.collection, room, waiting):
                    continue
                sequence += 1
                count += len(parcel)
                if accepted is not None:
                    accepted(batch)
                announcer.accepted(tell=messages > 0)
                if progress is not None:
                    progress(count)
        return count

    def announce(self, model_digest: str, messages: int) -> None:
        """Tell the workers of a model that work waits."""
        self._dispatcher.publish(model_digest, messages)

    @staticmethod
    def parcel(spec: CollectionSpec, ticket: Ticket, sequence: int, batch: tuple[Item, ...]) -> Parcel:
        """One group of a stream, as the ledger keeps it."""
        return Parcel(
            id=f"{ticket.job_id}.{sequence}",
            job_id=ticket.job_id,
            collection=spec.name,
            collection_key=spec.key,
            model_digest=spec.space.model_digest,
            documents=tuple(item for item in batch if isinstance(item, Document)),
            deletions=tuple(item for item in batch if isinstance(item, Deletion)),
            version=ticket.version,
            enqueued_at=ticket.opened_at,
        )

    def _accept(
        self,
        accept: Callable[[], Accepted | AboveLimit],
        cut: Callable[[AboveLimit], bool],
        collection: str,
        room: _Room,
        waiting: Callable[[], None],
    ) -> bool:
        """Returns False for a batch that has been cut instead, and is to come in smaller ones."""
        since = time.monotonic()
        while (answer := accept()) is not Accepted.YES:
            if isinstance(answer, AboveLimit) and cut(answer):
                return False
            room.missing(functools.partial(self._full, answer, collection), time.monotonic() - since)
            waiting()
            time.sleep(_FULL_LOOK_S)
        return True

    def _full(self, answer: Accepted | AboveLimit, collection: str) -> QueueFull:
        if isinstance(answer, AboveLimit):
            return _above_limit(answer, collection)
        load, marks = self._ledger.load(), self._high_water
        held = f"the queue holds {load.documents} documents and {load.bytes} bytes"
        if answer is Accepted.NO_MEMORY:
            return QueueFull(
                f"Redis comes too near its `maxmemory`: {held}, dead letters {load.dead_bytes} bytes; add workers, wait, "
                "replay or drop dead letters, or give Redis more memory",
                collection=collection,
            )
        return QueueFull(
            f"{held}, its marks are {marks.documents} and {marks.bytes}: add workers, wait, or raise "
            "GRISTMILL_QUEUE_MAX_DOCUMENTS or GRISTMILL_QUEUE_MAX_BYTES",
            collection=collection,
        )

    def _publish(self, model_digest: str) -> None:
        try:
            self._dispatcher.publish(model_digest)
            self._unheard = False
        except BrokerUnavailable as error:
            if not self._unheard:  # once, however many parcels it concerns
                log.warning("parcels are in the ledger, but no worker can be told yet: %s", error)
            self._unheard = True


class _Room:
    """What one stream does where there is none for its next parcel: it raises, or waits and says so once."""

    def __init__(self, block: bool, timeout_s: float | None) -> None:
        self._longest_s = timeout_s if block else 0.0
        self._said = False

    def missing(self, full: Callable[[], QueueFull], waited_s: float) -> None:
        if self._longest_s is not None and waited_s >= self._longest_s:
            raise full()
        if waited_s >= _FULL_SAID_S and not self._said:
            log.warning("enqueue waits: %s", full())
            self._said = True


def _nothing() -> None:
    return


def _above_limit(above: AboveLimit, collection: str) -> QueueFull:
    """Nothing in it is about anybody else: it may be shown to the tenant."""
    name = shlex.quote(above.tenant)
    return QueueFull(
        f"tenant {above.tenant!r}: {above.waiting} of its {above.measure} wait or are being worked on, and it may have "
        f"{above.limit}: wait until some of them are done, cancel jobs of it (`gristmill jobs list --tenant {name}`), or "
        f"allow more with `gristmill tenants limit {name} --{above.measure} N`",
        collection=collection,
        tenant=above.tenant,
    )


class _Batches(Iterator[tuple[Item, ...]]):
    """Batches one after the other, cut where a tenant's limit goes through one.

    Each is cut once, at the most that fits just now, unless what is left would never fit as a whole: a tenant that stays at
    its limit is not to have ever smaller parcels.
    """

    def __init__(self, batches: Iterator[tuple[Item, ...]]) -> None:
        self._batches: Iterator[tuple[Item, ...]] = batches
        self._batch: tuple[Item, ...] = ()
        #: Parts of one that has been cut, the last first.
        self._parts: list[tuple[Item, ...]] = []
        self._is_whole = True

    def __next__(self) -> tuple[Item, ...]:
        self._is_whole = not self._parts
        self._batch = self._parts.pop() if self._parts else next(self._batches)
        return self._batch

    def cut(self, above: AboveLimit) -> bool:
        """Whether the last one comes again, in two parts."""
        amounts = [_amount(item, above.measure) if item.tenant == above.tenant else 0 for item in self._batch]
        fits = bisect.bisect_right(list(itertools.accumulate(amounts)), above.limit - above.waiting)
        if not above.waiting and above.limit:
            fits = max(1, fits)  # by itself, whatever its size
        may_be = self._is_whole or sum(amounts) > above.limit
        if may_be and 0 < fits < len(self._batch):
            self._parts += [self._batch[fits:], self._batch[:fits]]
            return True
        return False


def _amount(item: Document | Deletion, measure: str) -> int:
    return {"documents": 1, "tokens": item.tokens, "bytes": item.size}[measure]
