"""The reconciler: keeps the number of messages up with the number of parcels that could be claimed.

A message only says that there is work, so nothing needs to be known about which one was lost, doubled or forged: where
fewer wait in the queue than the parcels that are due want, the difference is sent. That covers a kill between taking a
message and claiming, a flushed broker, a publish that failed, a holder that fell silent, the end of a delay or a rest.

Runs in every worker; a turn in the ledger makes one of each model's workers act.
"""

from __future__ import annotations

import logging
from typing import Protocol

from gristmill.ingest.broker import Dispatcher, messages_for
from gristmill.ledger import Ledger

log = logging.getLogger(__name__)

#: Messages sent per look; what is missing beyond them is missing at the next one too.
_MOST_AT_ONCE = 2000


class Queue(Protocol):
    """Where one model's messages wait."""

    def length(self) -> int:
        """How many."""


class Reconciler:
    """Sends the messages that one model's queue lacks."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        queue: Queue,
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
        self._lacked_before = 0

    def __call__(self) -> None:
        """One look, if it is this worker's turn among those of its model."""
        if not self._ledger.take_turn(f"reconcile.{self._model_digest}", self._holder, lease_s=3 * self._period_s):
            self._lacked_before = 0
            return
        # The ledger first: what is accepted and published between the two looks then counts as a message only.
        wanted = messages_for(self._ledger.backlog(self._model_digest))
        lacks = max(0, wanted - self._queue.length())
        # Messages on their way, from a producer or to a claim, are missing at one look, but not the same at two.
        sent = min(lacks, self._lacked_before, _MOST_AT_ONCE)
        if sent:
            # No warning: messages in hand may well be good for all of them, and who joins in late wants some of its own.
            log.info("parcels are due and few messages wait: sending %d more", sent)
            self._dispatcher.publish(self._model_digest, sent)
        self._lacked_before = lacks - sent
        self._ledger.forget_expired()
