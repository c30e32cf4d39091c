"""The reconciler: finds parcels whose pointer got lost, and publishes it again.

Runs in every worker; a turn in the ledger makes one of each model's workers act. Two kinds of parcels need it:

- *lapsed*: its holder stopped renewing. Killed, or cut off. Published at once.
- *lost*: nobody holds it and its message is gone (a kill between pop and claim, a flushed broker, a failed publish).

How to tell lost from merely waiting in a long backlog? The queue is first in, first out, so the parcel at its head says
how far the workers have come: what was published before the head, and is neither held nor finished, has no message any
more. Publishing everything that is old would instead add a copy of the whole backlog at every look.
"""

from __future__ import annotations

import logging

from gristmill.ingest.broker import Dispatcher
from gristmill.ledger import Ledger
from gristmill_worker.process.broker_queue import BrokerQueue

log = logging.getLogger(__name__)

#: Parcels looked at per turn.
_PAGE = 2000
#: Messages at the head that may be duplicates of finished parcels, before the look gives up.
_HEAD = 16
#: A message is on its way from the queue to a claim for less than this.
_GRACE_S = 5.0


class Reconciler:
    """Publishes lapsed and lost parcels of its model again."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        queue: BrokerQueue,
        model_digest: str,
        holder: str,
        period_s: float,
    ) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._queue = queue
        self._model_digest = model_digest
        self._holder = holder
        self._period_s = period_s

    def __call__(self) -> None:
        """One look, if it is this worker's turn among those of its model."""
        if not self._ledger.take_turn(f"reconcile.{self._model_digest}", self._holder, lease_s=3 * self._period_s):
            return
        overdue = self._ledger.overdue(self._model_digest, _PAGE)
        reached = self._reached() - _GRACE_S
        due = [item.parcel_id for item in overdue if item.lapsed or item.published_at < reached]
        if due:
            log.warning("publishing %d parcels again whose message or holder is gone", len(due))
            self._dispatcher.publish(self._model_digest, due)
            self._ledger.published(due)
        self._ledger.forget_expired()

    def _reached(self) -> float:
        """Publication time of the parcel at the queue's head; now for an empty queue; 0 where it cannot be told."""
        head = self._queue.head(_HEAD)
        for parcel_id in head:
            if (published_at := self._ledger.published_at(parcel_id)) is not None:
                return published_at
        return 0.0 if head or self._queue.length() else self._ledger.now()
