"""The reconciler: finds parcels whose pointer got lost, and publishes it again.

Runs in every worker; a turn in the ledger makes one of them act. Two kinds of parcels need it:

- *lapsed*: its holder stopped renewing. Killed, or cut off. Published at once.
- *lost*: nobody holds it and its message is gone (a kill between pop and claim, a flushed broker, a failed publish).

How to tell lost from merely waiting in a long backlog? The queue is first in, first out, so the parcel at its head says
how far the workers have come: what was published before the head, and is neither held nor finished, has no message any
more. Publishing everything that is old would instead add a copy of the whole backlog at every look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from gristmill.broker import Dispatcher
from gristmill.ledger import Ledger, Overdue
from gristmill_worker.queue import BrokerQueue

log = logging.getLogger(__name__)

#: Parcels looked at per turn.
_PAGE = 2000
#: Messages at the head that may be duplicates of finished parcels, before the look gives up.
_HEAD = 16
#: A message is on its way from the queue to a claim for less than this.
_GRACE_S = 5.0


class Reconciler:
    """Publishes lapsed and lost parcels of every model again."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        open_queue: Callable[[str], BrokerQueue],
        holder: str,
        period_s: float,
    ) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._open_queue = open_queue
        self._queues: dict[str, BrokerQueue] = {}
        self._holder = holder
        self._period_s = period_s

    def __call__(self) -> None:
        """One look, if it is this worker's turn."""
        if not self._ledger.take_turn("reconcile", self._holder, lease_s=3 * self._period_s):
            return
        overdue = self._ledger.overdue(_PAGE)
        by_model: dict[str, list[Overdue]] = {}
        for parcel in overdue:
            by_model.setdefault(parcel.model_digest, []).append(parcel)
        for digest, parcels in by_model.items():
            self._publish(digest, parcels)
        self._ledger.forget_expired()

    def _publish(self, digest: str, parcels: Sequence[Overdue]) -> None:
        reached = self._reached(digest)
        due = [item.parcel_id for item in parcels if item.lapsed or item.published_at < reached - _GRACE_S]
        if due:
            log.warning("publishing %d parcels again whose message or holder is gone", len(due))
            self._dispatcher.publish(digest, due)
            self._ledger.published(due)

    def _reached(self, digest: str) -> float:
        """Publication time of the parcel at the queue's head; now for an empty queue; 0 where it cannot be told."""
        queue = self._queues.setdefault(digest, self._open_queue(digest))
        head = queue.head(_HEAD)
        for parcel_id in head:
            if (published_at := self._ledger.published_at(parcel_id)) is not None:
                return published_at
        return 0.0 if head or queue.length() else self._ledger.now()

    def close(self) -> None:
        """Give connections back."""
        for queue in self._queues.values():
            queue.close()
